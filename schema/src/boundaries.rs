//! Boundaries, their groups, and the facts that answers about locations are made of.

use catalog::digest::{Sha1Digest, Sha256Digest};
use catalog::id::FileName;
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};

use crate::column::{sha1, sha1_or_none, sha256, size, text, time, time_or_none};
use crate::{Reader, SchemaError, Writer};

/// Row number of the default site boundary group.
pub const DEFAULT_GROUP: i64 = 1;

/// A boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundaryRow {
    /// Row number.
    pub id: i64,
    /// `subnet`, `range` or `ipv6-prefix`.
    pub kind: String,
    /// Its text.
    pub value: String,
    /// For people.
    pub name: String,
    /// Names of the groups that it is in.
    pub groups: Vec<String>,
}

/// A boundary group without its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundaryGroupRow {
    /// Row number; 1 is the default site group.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Clients may take content from each other.
    pub peers: bool,
    /// And only within their subnet.
    pub same_subnet_peers: bool,
    /// Points of the subnet before peers of it.
    pub prefer_points: bool,
    /// The cloud before points.
    pub prefer_cloud: bool,
    /// The cloud at all.
    pub cloud: bool,
}

/// When clients of a group may ask points of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelationRow {
    /// The group.
    pub group: i64,
    /// The other.
    pub neighbour: i64,
    /// Minutes; -1 for never.
    pub minutes: i64,
}

/// A distribution point, as locations need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceRow {
    /// Row number; 1 is the site's own.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its address; empty for the site's own.
    pub url: String,
    /// The same over TLS; empty where there is none.
    pub tls_url: String,
    /// Clients are not sent there now.
    pub maintenance: bool,
    /// It fetches what it is asked for.
    pub on_demand: bool,
    /// It is the site's own, or has a key that is in force.
    pub has_key: bool,
    /// Where its reports come from, if it has ever sent any.
    pub address: Option<String>,
    /// When it was heard of last, as far as that is written down.
    pub last_seen: Option<Timestamp>,
}

/// A content that a point has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldRow {
    /// The content.
    pub sha256: Sha256Digest,
    /// Its SHA-1.
    pub sha1: Sha1Digest,
    /// Bytes.
    pub size: u64,
    /// A name of it.
    pub file_name: FileName,
    /// The point.
    pub point: i64,
    /// Since when.
    pub since: Timestamp,
    /// Only for those with a key.
    pub private: bool,
}

/// A file that the site knows by its SHA-256 without having it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedRow {
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its SHA-1, if published.
    pub sha1: Option<Sha1Digest>,
    /// Bytes.
    pub size: u64,
    /// Its published name.
    pub file_name: FileName,
    /// The upstream's link.
    pub url: String,
}

fn group(row: &Row<'_>) -> Result<BoundaryGroupRow, SchemaError> {
    Ok(BoundaryGroupRow {
        id: row.get("boundary_group_id")?,
        name: row.get("name")?,
        peers: row.get("peers")?,
        same_subnet_peers: row.get("same_subnet_peers")?,
        prefer_points: row.get("prefer_points")?,
        prefer_cloud: row.get("prefer_cloud")?,
        cloud: row.get("cloud")?,
    })
}

impl Reader<'_> {
    /// All boundaries, in the order in which they were made.
    pub fn boundaries(&self) -> Result<Vec<BoundaryRow>, SchemaError> {
        let mut all = self.all("SELECT * FROM boundary ORDER BY boundary_id", [], |row| {
            Ok(BoundaryRow {
                id: row.get("boundary_id")?,
                kind: row.get("kind")?,
                value: row.get("value")?,
                name: row.get("name")?,
                groups: Vec::new(),
            })
        })?;
        const SQL: &str = "
            SELECT m.boundary_id, g.name FROM boundary_group_boundary AS m JOIN boundary_group AS g USING (boundary_group_id)
             ORDER BY m.boundary_id, g.name";
        let members: Vec<(i64, String)> =
            self.all(SQL, [], |row| Ok((row.get("boundary_id")?, row.get("name")?)))?;
        for (boundary, group) in members {
            // Both are in the order of the boundaries' numbers.
            if let Ok(at) = all.binary_search_by_key(&boundary, |row| row.id) {
                all[at].groups.push(group);
            }
        }
        Ok(all)
    }

    /// All boundary groups, that of the site first.
    pub fn boundary_groups(&self) -> Result<Vec<BoundaryGroupRow>, SchemaError> {
        self.all("SELECT * FROM boundary_group ORDER BY boundary_group_id <> 1, name", [], group)
    }

    /// Which boundary is in which group: group, boundary.
    pub fn boundary_members(&self) -> Result<Vec<(i64, i64)>, SchemaError> {
        self.all("SELECT * FROM boundary_group_boundary ORDER BY 1, 2", [], |row| {
            Ok((row.get("boundary_group_id")?, row.get("boundary_id")?))
        })
    }

    /// Which point is in which group: group, point.
    pub fn point_members(&self) -> Result<Vec<(i64, i64)>, SchemaError> {
        self.all("SELECT * FROM boundary_group_point ORDER BY 1, 2", [], |row| {
            Ok((row.get("boundary_group_id")?, row.get("point_id")?))
        })
    }

    /// All relationships for content.
    pub fn boundary_relations(&self) -> Result<Vec<RelationRow>, SchemaError> {
        self.all("SELECT * FROM boundary_relation WHERE role = 'dp' ORDER BY 1, 2", [], |row| {
            Ok(RelationRow {
                group: row.get("boundary_group_id")?,
                neighbour: row.get("neighbour")?,
                minutes: row.get("minutes")?,
            })
        })
    }

    /// Distribution points as places, the site's own first.
    pub fn places(&self) -> Result<Vec<PlaceRow>, SchemaError> {
        const SQL: &str = "
            SELECT point_id, name, url, tls_url, maintenance, on_demand AND may_pull AS on_demand, address, last_seen,
                   point_id = 1 OR EXISTS (
                       SELECT 1 FROM principal
                        WHERE kind = 'point' AND principal.name = point.name AND revoked IS NULL) AS has_key
              FROM point ORDER BY point_id";
        self.all(SQL, [], |row| {
            Ok(PlaceRow {
                id: row.get("point_id")?,
                name: row.get("name")?,
                url: row.get("url")?,
                tls_url: row.get("tls_url")?,
                maintenance: row.get("maintenance")?,
                on_demand: row.get("on_demand")?,
                has_key: row.get("has_key")?,
                address: row.get("address")?,
                last_seen: time_or_none(row, "last_seen")?,
            })
        })
    }

    /// Which point has which content. What a point has is said by its own rows: the site may lack it while it fetches its copy
    /// again.
    pub fn held(&self) -> Result<Vec<HeldRow>, SchemaError> {
        const SQL: &str = "
            SELECT content AS sha256, sha1, size, point_id, since, file_name,
                   content IN (SELECT content FROM private_content) AS private
              FROM held_content ORDER BY content, point_id";
        self.all(SQL, [], |row| {
            Ok(HeldRow {
                sha256: sha256(row, "sha256")?,
                sha1: sha1(row, "sha1")?,
                size: size(row, "size")?,
                file_name: text(row, "file_name")?,
                point: row.get("point_id")?,
                since: time(row, "since")?,
                private: row.get("private")?,
            })
        })
    }

    /// Links of files that were published with a SHA-256 and that the site does not hold: for content without a deployment
    /// package, which comes from peers and the cloud only. What points hold as private has none.
    pub fn published_elsewhere(&self) -> Result<Vec<PublishedRow>, SchemaError> {
        const SQL: &str = "
            SELECT file.sha256, file.sha1, file.size, file.file_name, file_url.url
              FROM file JOIN file_url USING (file_id)
             WHERE file.sha256 IS NOT NULL AND file.content IS NULL
               AND file.sha256 NOT IN (SELECT content FROM private_content)
             ORDER BY file.sha256, file_url.url";
        self.all(SQL, [], |row| {
            Ok(PublishedRow {
                sha256: sha256(row, "sha256")?,
                sha1: sha1_or_none(row, "sha1")?,
                size: size(row, "size")?,
                file_name: text(row, "file_name")?,
                url: row.get("url")?,
            })
        })
    }
}

impl Writer<'_> {
    /// Gives the default site group the name that the site's code makes.
    pub fn name_default_group(&self, code: &str) -> Result<(), SchemaError> {
        let name = format!("Default-Site-Boundary-Group<{code}>");
        self.execute(
            "UPDATE boundary_group SET name = ?1 WHERE boundary_group_id = 1 AND name <> ?1",
            [name],
        )?;
        Ok(())
    }

    /// Records a boundary; answers its number, `None` where there is one of this value.
    pub fn add_boundary(
        &self,
        kind: &str,
        value: &str,
        name: &str,
        now: Timestamp,
    ) -> Result<Option<i64>, SchemaError> {
        let added = self.execute(
            "INSERT OR IGNORE INTO boundary (kind, value, name, created) VALUES (?1, ?2, ?3, ?4)",
            (kind, value, name, now.as_millisecond()),
        )?;
        Ok((added == 1).then(|| self.last_id()))
    }

    /// Takes a boundary away, out of all its groups too.
    pub fn remove_boundary(&self, id: i64) -> Result<(), SchemaError> {
        self.execute("DELETE FROM boundary WHERE boundary_id = ?1", [id])?;
        Ok(())
    }

    /// Makes a boundary group; `None` where there is one of this name.
    pub fn add_boundary_group(&self, name: &str, now: Timestamp) -> Result<Option<i64>, SchemaError> {
        let added = self.execute(
            "INSERT OR IGNORE INTO boundary_group (name, created) VALUES (?1, ?2)",
            (name, now.as_millisecond()),
        )?;
        Ok((added == 1).then(|| self.last_id()))
    }

    /// Deletes a boundary group with its relationships. Boundaries and points stay.
    pub fn delete_boundary_group(&self, id: i64) -> Result<(), SchemaError> {
        self.execute(
            "DELETE FROM boundary_group WHERE boundary_group_id = ?1 AND boundary_group_id <> 1",
            [id],
        )?;
        Ok(())
    }

    /// Records what a group allows and prefers.
    pub fn set_boundary_group(&self, group: &BoundaryGroupRow) -> Result<(), SchemaError> {
        self.execute(
            "UPDATE boundary_group
                SET peers = :peers, same_subnet_peers = :same, prefer_points = :points, prefer_cloud = :prefer,
                    cloud = :cloud
              WHERE boundary_group_id = :id",
            named_params! {
                ":peers": group.peers, ":same": group.same_subnet_peers, ":points": group.prefer_points,
                ":prefer": group.prefer_cloud, ":cloud": group.cloud, ":id": group.id,
            },
        )?;
        Ok(())
    }

    /// Puts a boundary into a group, or takes it out.
    pub fn boundary_in_group(&self, group: i64, boundary: i64, inside: bool) -> Result<(), SchemaError> {
        let sql = if inside {
            "INSERT OR IGNORE INTO boundary_group_boundary (boundary_group_id, boundary_id) VALUES (?1, ?2)"
        } else {
            "DELETE FROM boundary_group_boundary WHERE boundary_group_id = ?1 AND boundary_id = ?2"
        };
        self.execute(sql, [group, boundary])?;
        Ok(())
    }

    /// Puts a point into a group, or takes it out.
    pub fn point_in_group(&self, group: i64, point: i64, inside: bool) -> Result<(), SchemaError> {
        let sql = if inside {
            "INSERT OR IGNORE INTO boundary_group_point (boundary_group_id, point_id) VALUES (?1, ?2)"
        } else {
            "DELETE FROM boundary_group_point WHERE boundary_group_id = ?1 AND point_id = ?2"
        };
        self.execute(sql, [group, point])?;
        Ok(())
    }

    /// Says when clients of `group` may ask points of `neighbour`: after minutes, never (-1), or as if nothing was said.
    pub fn relate_groups(&self, group: i64, neighbour: i64, minutes: Option<i64>) -> Result<(), SchemaError> {
        match minutes {
            Some(minutes) => self.execute(
                "INSERT INTO boundary_relation (boundary_group_id, neighbour, role, minutes) VALUES (?1, ?2, 'dp', ?3)
                 ON CONFLICT DO UPDATE SET minutes = excluded.minutes",
                [group, neighbour, minutes],
            )?,
            None => self.execute(
                "DELETE FROM boundary_relation WHERE boundary_group_id = ?1 AND neighbour = ?2 AND role = 'dp'",
                [group, neighbour],
            )?,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    #[test]
    fn what_points_have_outlives_the_copy_of_the_site() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let content = Sha256Digest([7; 32]);
        let sha1 = Sha1Digest([8; 20]);
        let held = |r: &Reader<'_>| {
            let rows = r.held()?.into_iter();
            let row = |row: HeldRow| {
                (row.point, row.sha256, row.sha1, row.size, row.file_name.to_string(), row.private)
            };
            Ok(rows.map(row).collect::<Vec<_>>())
        };
        runtime.block_on(async {
            let lyon = store
                .write(move |w| {
                    let lyon = w.add_point("lyon", "http://lyon", crate::points::PointRole::Standard)?;
                    w.record_content(content, sha1, 5, false, Timestamp::UNIX_EPOCH)?;
                    w.execute(
                        "INSERT INTO package (package_id, sequence, name, description, version, created, changed, access)
                         VALUES ('XYZ00001', 1, 'p', '', 1, 0, 0, 'private')",
                        [],
                    )?;
                    for point in [1, lyon] {
                        w.execute("INSERT INTO distribution (package_id, point_id, version, at) VALUES ('XYZ00001', ?1, 1, 0)", [point])?;
                        w.execute(
                            "INSERT INTO distributed_file (package_id, point_id, file_name, content, sha1, size, held)
                             VALUES ('XYZ00001', ?1, 'b.esd', ?2, ?3, 5, 0), ('XYZ00001', ?1, 'a.esd', ?2, ?3, 5, 0)",
                            (point, content.0, sha1.0),
                        )?;
                    }
                    Ok(lyon)
                })
                .await
                .unwrap();
            let of = |point: i64| (point, content, sha1, 5, "a.esd".to_owned(), true);
            assert_eq!(store.read(held).await.unwrap(), [of(1), of(lyon)]);
            store.write(move |w| w.forget_content(content)).await.unwrap();
            assert_eq!(store.read(held).await.unwrap(), [of(lyon)], "the site fetches its copy again");
            assert_eq!(store.read(|r| Ok(r.point_rows()?[1].bytes)).await.unwrap(), 5);
        });
    }

    #[test]
    fn a_point_has_a_key_until_it_is_taken_back() {
        use crate::keys::{NewEnrolment, PrincipalKind};

        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (kind, now) = (PrincipalKind::Point, Timestamp::UNIX_EPOCH);
        let hash = |seed: u8| Sha256Digest([seed; 32]);
        runtime.block_on(async {
            let keys = async || -> Vec<bool> {
                let places = store.read(|r| r.places()).await.unwrap();
                places.iter().map(|place| place.has_key).collect()
            };
            let enrol = async |token: u8, name: &'static str, kind| {
                let expires = Timestamp::from_second(100).unwrap();
                let change = move |w: &Writer<'_>| {
                    w.begin_enrolment(
                        &NewEnrolment { hash: hash(token), kind, name: name.to_owned(), expires },
                        now,
                    )?;
                    let keys = crate::keys::NewKeys { key: hash(token + 100), content: None };
                    w.enrol(hash(token), keys, uuid::Uuid::nil(), now)
                };
                store.write(change).await.unwrap();
            };
            store
                .write(|w| w.add_point("lyon", "http://lyon", crate::points::PointRole::Standard))
                .await
                .unwrap();
            assert_eq!(keys().await, [true, false], "the site's own needs none");
            enrol(1, "lyon", PrincipalKind::Device).await;
            assert_eq!(keys().await, [true, false], "a device of that name");
            enrol(2, "LYON", kind).await;
            assert_eq!(keys().await, [true, true]);
            store.write(move |w| w.revoke(kind, "lyon", now)).await.unwrap();
            assert_eq!(keys().await, [true, false]);
            enrol(3, "lyon", kind).await;
            assert_eq!(keys().await, [true, true], "another key");
            let address: std::net::IpAddr = "10.1.2.3".parse().unwrap();
            store.write(move |w| w.point_speaks_from(2, address)).await.unwrap();
            assert_eq!(store.read(|r| r.places()).await.unwrap()[1].address.as_deref(), Some("10.1.2.3"));
        });
    }

    #[test]
    fn groups_have_members_and_relations_and_lose_them_with_what_they_are_of() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (lyon, rome, net) = store
                .write(|w| {
                    w.name_default_group("XYZ")?;
                    let lyon = w.add_boundary_group("LYON", Timestamp::UNIX_EPOCH)?.unwrap();
                    assert_eq!(w.add_boundary_group("lyon", Timestamp::UNIX_EPOCH)?, None);
                    let rome = w.add_boundary_group("ROME", Timestamp::UNIX_EPOCH)?.unwrap();
                    let net = w.add_boundary("subnet", "10.0.0.0/24", "", Timestamp::UNIX_EPOCH)?.unwrap();
                    assert_eq!(w.add_boundary("subnet", "10.0.0.0/24", "", Timestamp::UNIX_EPOCH)?, None);
                    w.boundary_in_group(lyon, net, true)?;
                    w.boundary_in_group(lyon, net, true)?;
                    w.boundary_in_group(rome, net, true)?;
                    w.point_in_group(lyon, 1, true)?;
                    w.relate_groups(lyon, rome, Some(60))?;
                    w.relate_groups(lyon, rome, Some(-1))?;
                    w.relate_groups(rome, DEFAULT_GROUP, Some(5))?;
                    Ok((lyon, rome, net))
                })
                .await
                .unwrap();
            let names: Vec<_> = store.read(|r| r.boundary_groups()).await.unwrap();
            let names: Vec<_> = names.iter().map(|group| group.name.as_str()).collect();
            assert_eq!(names, ["Default-Site-Boundary-Group<XYZ>", "LYON", "ROME"]);
            assert_eq!(store.read(|r| r.boundaries()).await.unwrap()[0].groups, ["LYON", "ROME"]);
            let relations = store.read(|r| r.boundary_relations()).await.unwrap();
            assert_eq!(relations[0], RelationRow { group: lyon, neighbour: rome, minutes: -1 });
            assert!(store.write(move |w| w.relate_groups(lyon, lyon, Some(1))).await.is_err());

            store
                .write(move |w| {
                    w.delete_boundary_group(rome)?;
                    w.delete_boundary_group(DEFAULT_GROUP)
                })
                .await
                .unwrap();
            assert_eq!(store.read(|r| r.boundary_groups()).await.unwrap().len(), 2);
            assert_eq!(store.read(|r| r.boundary_relations()).await.unwrap(), []);
            assert_eq!(store.read(|r| r.boundary_members()).await.unwrap(), [(lyon, net)]);
            store.write(move |w| w.remove_boundary(net)).await.unwrap();
            assert_eq!(store.read(|r| r.boundary_members()).await.unwrap(), []);
            assert_eq!(store.read(|r| r.point_members()).await.unwrap(), [(lyon, 1)]);
        });
    }
}
