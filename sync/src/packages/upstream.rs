//! By which paths of the upstream's links content may be asked for: Delivery Optimization asks its cache host so.

use std::collections::HashMap;

use catalog::digest::Sha256Digest;
use dp::server::path_of_link;
use schema::{Reader, SchemaError};

/// Paths that stand for one content that the site holds.
///
/// # Errors
/// Those of the database.
pub fn upstream_paths(reader: &Reader<'_>) -> Result<HashMap<String, Sha256Digest>, SchemaError> {
    Ok(clear_ones(reader.upstream_links()?))
}

/// A path that stands for two contents, or for one that nobody knows yet, stands for none: who asks by it alone could get the wrong
/// one.
fn clear_ones(links: Vec<(String, Option<Sha256Digest>)>) -> HashMap<String, Sha256Digest> {
    let mut paths: HashMap<String, Option<Sha256Digest>> = HashMap::new();
    for (link, content) in links {
        let Some(path) = path_of_link(&link) else { continue };
        let named = paths.entry(path).or_insert(content);
        *named = named.filter(|named| Some(*named) == content);
    }
    paths.into_iter().filter_map(|(path, content)| Some((path, content?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stands_for_one_content_or_for_none() {
        let content = |n: u8| Some(Sha256Digest([n; 32]));
        let links = [
            ("http://dl.example/files/1/a.esd", content(1)),
            ("http://2.dl.example/files/1/a.esd", content(1)),
            ("http://dl.example/files/2/b.esd", content(2)),
            ("http://other.example/files/2/b.esd", content(3)),
            ("http://dl.example/files/3/c.esd", None),
            ("http://dl.example/files/3/c.esd", content(3)),
            ("http://dl.example/files/4/d.esd", content(4)),
            ("http://dl.example/files/4/d.esd", None),
            ("http://dl.example/files/5/e.esd?P1=1", content(5)),
        ];
        let paths = clear_ones(links.map(|(link, content)| (link.to_owned(), content)).into());
        let expected = [("files/1/a.esd".to_owned(), Sha256Digest([1; 32]))];
        assert_eq!(paths, HashMap::from(expected));
    }
}
