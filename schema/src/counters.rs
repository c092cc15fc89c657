//! Numbers that are given once: what was deleted does not give its own back. They stand in `site`.

use crate::column::size;
use crate::{SchemaError, Writer};

impl Writer<'_> {
    /// The next number of a counter, from 1.
    pub(crate) fn count(&self, counter: &'static str) -> Result<u64, SchemaError> {
        self.execute(
            "INSERT INTO site (key, value) VALUES (?1, '1')
             ON CONFLICT DO UPDATE SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT)",
            [counter],
        )?;
        const SQL: &str = "SELECT CAST(value AS INTEGER) AS value FROM site WHERE key = ?1";
        let next = self.first(SQL, [counter], |row| size(row, "value"))?;
        next.ok_or_else(|| SchemaError::Value(counter.to_owned()))
    }

    /// The same, where the number is part of an id.
    pub(crate) fn count_id(&self, counter: &'static str) -> Result<u32, SchemaError> {
        u32::try_from(self.count(counter)?).map_err(|_| SchemaError::Value(counter.to_owned()))
    }
}
