//! Names are given once, whatever their case.

use catalog::id::PackageId;
use catalog::problem::{Code, Problem};

use crate::SchemaError;

/// Refuses a name that another thing of this sort has; `but` is the one whose name it may be.
pub(crate) fn free<'t>(
    what: &str,
    name: &str,
    but: Option<&PackageId>,
    taken: impl IntoIterator<Item = (&'t PackageId, &'t str)>,
) -> Result<(), SchemaError> {
    let lower = name.to_lowercase();
    let mut taken = taken.into_iter().filter(|(id, _)| Some(*id) != but);
    match taken.find(|(_, other)| other.to_lowercase() == lower) {
        None => Ok(()),
        Some((id, other)) => {
            Err(Problem::new(Code::NameInUse, format!("{what} {id} is called `{other}` already")).into())
        }
    }
}
