//! By which paths of the upstream's links content may be asked for: Delivery Optimization asks its cache host so.

use std::collections::{HashMap, HashSet};

use catalog::digest::Sha256Digest;
use dp::server::{UpstreamPaths, path_of_link};
use schema::{Reader, SchemaError};

/// Paths that stand for one content that the site holds.
///
/// # Errors
/// Those of the database.
pub fn upstream_paths(reader: &Reader<'_>) -> Result<UpstreamPaths, SchemaError> {
    Ok(clear_ones(reader.upstream_links()?))
}

/// A path that stands for two contents, or for one that nobody knows yet, stands for none: who asks by it alone could get the wrong
/// one. Paths that differ by their case alone are one.
fn clear_ones(links: Vec<(String, Option<Sha256Digest>)>) -> UpstreamPaths {
    let mut paths: HashMap<String, (Option<Sha256Digest>, HashSet<String>)> = HashMap::new();
    for (link, content) in links {
        let Some(path) = path_of_link(&link) else { continue };
        let (named, written) =
            paths.entry(path.to_ascii_lowercase()).or_insert_with(|| (content, HashSet::new()));
        *named = named.filter(|named| Some(*named) == content);
        written.insert(path);
    }
    let clear = paths.into_values().filter_map(|(content, written)| Some((content?, written)));
    clear.flat_map(|(content, written)| written.into_iter().map(move |path| (path, content))).collect()
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
            ("http://dl.example/files/6/f.esd", content(6)),
            ("http://dl.example/Files/6/F.esd", content(7)),
            ("http://dl.example/files/8/g.esd", content(8)),
            ("http://dl.example/Files/8/g.esd", content(8)),
        ];
        let paths = clear_ones(links.map(|(link, content)| (link.to_owned(), content)).into());
        let expected = [("files/1/a.esd", 1), ("files/8/g.esd", 8), ("Files/8/g.esd", 8)];
        let expected = expected.map(|(path, n)| (path.to_owned(), Sha256Digest([n; 32])));
        assert_eq!(*paths.said(), HashMap::from(expected));
    }
}
