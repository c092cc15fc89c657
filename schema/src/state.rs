//! The canonical text of a site: what lasts, sorted, without row numbers and times. Two sites with the same text know
//! the same.

use std::fmt::Write as _;

use rusqlite::types::ValueRef;

use crate::{Reader, SchemaError};

/// What is dumped: a heading and a question whose columns and order are part of the text.
const PARTS: [(&str, &str); 32] = [
    ("update", "SELECT update_id, latest, declined, held, expired_at IS NOT NULL FROM update_item ORDER BY 1"),
    (
        "revision",
        "SELECT update_id, number, title, classification, product, products, release, build_major, build_minor,
                build_stamp, edition_group, editions, architecture, language, shape, told_by, bases, size, encrypted,
                license_required, license_key, created, expired, missing
           FROM revision ORDER BY 1, 2",
    ),
    (
        "file",
        "SELECT r.update_id, r.number, r.position, r.file_name, f.size, f.sha1, f.sha256, f.content
           FROM revision_file AS r JOIN file AS f USING (file_id) ORDER BY 1, 2, 3",
    ),
    (
        "terms",
        "SELECT update_id, number, language, size, sha1, sha256 FROM revision_license ORDER BY 1, 2, 3",
    ),
    (
        "metadata",
        "SELECT update_id, number, kind, category_type, title, sha256, created, publication_state, deployable, handler, license
           FROM metadata ORDER BY 1, 2",
    ),
    (
        "relation",
        "SELECT m.update_id, m.number, r.relation, r.clause, r.target, r.number
           FROM metadata_relation AS r JOIN metadata AS m USING (metadata_id) ORDER BY 1, 2, 3, 4, 5, 6",
    ),
    (
        "metadata file",
        "SELECT m.update_id, m.number, f.position, f.file_name, f.size, f.sha1, f.sha256
           FROM metadata_file AS f JOIN metadata AS m USING (metadata_id) ORDER BY 1, 2, 3",
    ),
    (
        "metadata terms",
        "SELECT m.update_id, m.number, t.language, t.file_name, t.size, t.sha1, t.sha256
           FROM metadata_license AS t JOIN metadata AS m USING (metadata_id) ORDER BY 1, 2, 3",
    ),
    ("document link", "SELECT sha1, source, url FROM metadata_url ORDER BY 1, 2, 3"),
    (
        "link",
        "SELECT f.file_name, f.sha1, f.sha256, u.source, u.url FROM file_url AS u JOIN file AS f USING (file_id)
          ORDER BY 1, 2, 3, 4, 5",
    ),
    ("listing", "SELECT source, location, update_id, number FROM listing ORDER BY 1, 2, 3, 4"),
    ("license", "SELECT product, language, sha256, origin FROM license_current ORDER BY 1, 2"),
    ("content", "SELECT sha256, sha1, size, sha1_only FROM content ORDER BY 1"),
    (
        "package",
        "SELECT p.package_id, p.name, p.description, p.source_dir, p.access, m.update_id, m.number, m.file_name, m.state
           FROM package AS p LEFT JOIN package_file AS m USING (package_id) ORDER BY 1, 6, 7, 8",
    ),
    ("boundary", "SELECT kind, value, name FROM boundary ORDER BY 2"),
    (
        "boundary group",
        "SELECT name, peers, same_subnet_peers, prefer_points, prefer_cloud, cloud FROM boundary_group ORDER BY 1",
    ),
    (
        "boundary group member",
        "SELECT g.name, b.value FROM boundary_group_boundary AS m JOIN boundary_group AS g USING (boundary_group_id)
           JOIN boundary AS b USING (boundary_id)
          UNION ALL
         SELECT g.name, p.name FROM boundary_group_point AS m JOIN boundary_group AS g USING (boundary_group_id)
           JOIN point AS p USING (point_id) ORDER BY 1, 2",
    ),
    (
        "boundary relation",
        "SELECT g.name, n.name, r.role, r.minutes FROM boundary_relation AS r JOIN boundary_group AS g USING (boundary_group_id)
           JOIN boundary_group AS n ON n.boundary_group_id = r.neighbour ORDER BY 1, 2, 3",
    ),
    ("sequence", "SELECT sequence_id, name, enabled, document FROM sequence ORDER BY 1"),
    ("image", "SELECT image_id, name, version, file_name, content FROM image ORDER BY 1"),
    (
        "app",
        "SELECT a.app_id, a.name, a.retired, a.form, f.file_name, f.content
           FROM app AS a LEFT JOIN app_file AS f USING (app_id) ORDER BY 1, 5",
    ),
    (
        "collection",
        "SELECT c.name, m.device FROM collection AS c LEFT JOIN collection_member AS m USING (collection_id) ORDER BY 1, 2",
    ),
    ("client settings", "SELECT name, priority, chosen FROM client_settings ORDER BY 1"),
    ("pulled", "SELECT sha256, file_name, private FROM pulled_content ORDER BY 1"),
    ("unnamed", "SELECT sha256, package_id, file_name, private FROM unnamed_content ORDER BY 1"),
    (
        "deployment",
        "SELECT d.deployment_id, d.sequence_id, c.name, d.purpose, d.options, d.package_id, d.content, d.places,
                d.stopped IS NOT NULL
           FROM deployment AS d JOIN collection AS c USING (collection_id) ORDER BY 1",
    ),
    (
        "update deployment",
        "SELECT d.deployment_id, c.name, d.purpose, m.update_id, m.title, d.stopped IS NOT NULL
           FROM update_deployment AS d JOIN collection AS c USING (collection_id)
           JOIN update_deployment_member AS m USING (deployment_id) ORDER BY 1, m.position",
    ),
    (
        "window",
        "SELECT c.name, w.name, w.begins, w.once, w.minutes, w.zone
           FROM maintenance_window AS w JOIN collection AS c USING (collection_id) ORDER BY 1, 2",
    ),
    ("phased", "SELECT name, sequence_id, options, plan FROM phased ORDER BY 1"),
    (
        "distributed",
        "SELECT package_id, point_id, file_name, content, held IS NOT NULL FROM distributed_file ORDER BY 1, 2, 3",
    ),
    ("leaving", "SELECT package_id, point_id, file_name, content FROM leaving_file ORDER BY 1, 2, 4"),
    ("lost", "SELECT package_id, point_id, file_name, content FROM lost_file ORDER BY 1, 2, 3"),
];

impl Reader<'_> {
    /// The canonical text.
    pub fn dump(&self) -> Result<String, SchemaError> {
        let mut text = String::new();
        for (heading, question) in PARTS {
            let mut statement = self.statement(question)?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                text.push_str(heading);
                for column in 0..columns {
                    text.push('\t');
                    match row.get_ref(column)? {
                        ValueRef::Null => text.push('-'),
                        ValueRef::Integer(number) => write!(text, "{number}").unwrap_or_default(),
                        ValueRef::Real(number) => write!(text, "{number}").unwrap_or_default(),
                        ValueRef::Text(bytes) => {
                            text.push_str(&String::from_utf8_lossy(bytes).escape_debug().to_string())
                        }
                        ValueRef::Blob(bytes) => {
                            bytes.iter().for_each(|b| write!(text, "{b:02x}").unwrap_or_default())
                        }
                    }
                }
                text.push('\n');
            }
        }
        Ok(text)
    }
}
