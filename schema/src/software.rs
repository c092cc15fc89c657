//! OS upgrade packages and applications.

use catalog::digest::Sha256Digest;
use catalog::id::{FileName, PackageId};
use catalog::image::ImageInfo;
use jiff::Timestamp;
use rusqlite::{Row, named_params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::column::{as_i64, json, sha256, size, text, time, to_json};
use crate::names::free;
use crate::{Reader, SchemaError, Writer};

/// An OS upgrade package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRow {
    /// `XYZ00052`.
    pub id: PackageId,
    /// Unique, without regard to case.
    pub name: String,
    /// Free text.
    pub version: String,
    /// The name of its file.
    pub file_name: FileName,
    /// The file.
    pub content: Sha256Digest,
    /// Its bytes.
    pub size: u64,
    /// What is in it.
    pub info: ImageInfo,
    /// When it was added.
    pub created: Timestamp,
}

/// An application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppRow {
    /// `XYZ00053`.
    pub id: PackageId,
    /// Unique, without regard to case.
    pub name: String,
    /// The form, as it was given.
    pub form: Value,
    /// It is not installed any more.
    pub retired: bool,
    /// When it was added.
    pub created: Timestamp,
    /// Its files.
    pub files: Vec<AppFile>,
}

/// A file of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppFile {
    /// Its name.
    pub file_name: FileName,
    /// The file.
    pub content: Sha256Digest,
    /// Its bytes.
    pub size: u64,
}

fn image(row: &Row<'_>) -> Result<ImageRow, SchemaError> {
    Ok(ImageRow {
        id: text(row, "image_id")?,
        name: row.get("name")?,
        version: row.get("version")?,
        file_name: text(row, "file_name")?,
        content: sha256(row, "content")?,
        size: size(row, "size")?,
        info: json(row, "info")?.ok_or_else(|| SchemaError::Value("info".to_owned()))?,
        created: time(row, "created")?,
    })
}

impl Reader<'_> {
    /// All OS upgrade packages, oldest first.
    pub fn images(&self) -> Result<Vec<ImageRow>, SchemaError> {
        self.all("SELECT * FROM image ORDER BY number", [], image)
    }

    /// All applications, oldest first.
    pub fn apps(&self) -> Result<Vec<AppRow>, SchemaError> {
        let rows = self.all("SELECT * FROM app ORDER BY number", [], |row| {
            Ok(AppRow {
                id: text(row, "app_id")?,
                name: row.get("name")?,
                form: json(row, "form")?.unwrap_or_default(),
                retired: row.get("retired")?,
                created: time(row, "created")?,
                files: Vec::new(),
            })
        })?;
        rows.into_iter().map(|row| Ok(AppRow { files: self.app_files(&row.id)?, ..row })).collect()
    }

    fn app_files(&self, id: &PackageId) -> Result<Vec<AppFile>, SchemaError> {
        self.all("SELECT * FROM app_file WHERE app_id = ?1 ORDER BY file_name", [id.as_str()], |row| {
            Ok(AppFile {
                file_name: text(row, "file_name")?,
                content: sha256(row, "content")?,
                size: size(row, "size")?,
            })
        })
    }

    /// Whether a name of an OS upgrade package is free.
    pub fn check_image_name(&self, name: &str) -> Result<(), SchemaError> {
        free("OS upgrade package", name, None, self.images()?.iter().map(|row| (&row.id, &*row.name)))
    }

    /// Whether a name of an application is free.
    pub fn check_app_name(&self, name: &str) -> Result<(), SchemaError> {
        free("application", name, None, self.apps()?.iter().map(|row| (&row.id, &*row.name)))
    }
}

impl Writer<'_> {
    /// Adds an OS upgrade package whose content is recorded.
    pub fn create_image(&self, number: u32, image: &ImageRow) -> Result<(), SchemaError> {
        self.check_image_name(&image.name)?;
        self.execute(
            "INSERT INTO image (image_id, number, name, version, file_name, content, size, info, created)
             VALUES (:id, :number, :name, :version, :file_name, :content, :size, :info, :created)",
            named_params! {
                ":id": image.id.as_str(), ":number": number, ":name": image.name, ":version": image.version,
                ":file_name": image.file_name.as_str(), ":content": image.content.0, ":size": as_i64(image.size)?,
                ":info": to_json(&image.info)?, ":created": image.created.as_millisecond(),
            },
        )?;
        Ok(())
    }

    /// Deletes an OS upgrade package.
    pub fn delete_image(&self, id: &PackageId) -> Result<(), SchemaError> {
        self.execute("DELETE FROM image WHERE image_id = ?1", [id.as_str()])?;
        Ok(())
    }

    /// Adds an application whose content is recorded.
    pub fn create_app(&self, number: u32, app: &AppRow) -> Result<(), SchemaError> {
        self.check_app_name(&app.name)?;
        self.execute(
            "INSERT INTO app (app_id, number, name, form, retired, created) VALUES (?1, ?2, ?3, ?4, 0, ?5)",
            (app.id.as_str(), number, &app.name, to_json(&app.form)?, app.created.as_millisecond()),
        )?;
        for file in &app.files {
            self.execute(
                "INSERT INTO app_file (app_id, file_name, content, size) VALUES (?1, ?2, ?3, ?4)",
                (app.id.as_str(), file.file_name.as_str(), file.content.0, as_i64(file.size)?),
            )?;
        }
        Ok(())
    }

    /// An application is not installed any more.
    pub fn retire_app(&self, id: &PackageId) -> Result<(), SchemaError> {
        self.execute("UPDATE app SET retired = 1 WHERE app_id = ?1", [id.as_str()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use catalog::digest::Sha1Digest;

    use super::*;
    use crate::Store;
    use crate::packages::{Access, NewPackage};
    use crate::points::{OWN_POINT, PointRole};

    /// What an application has goes to points by a row of its own, for devices alone, and is no deployment package.
    #[test]
    fn an_application_goes_to_points_as_packages_do() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("site.db"), 1).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let change = |w: &Writer<'_>| {
            let (now, content) = (Timestamp::UNIX_EPOCH, Sha256Digest([7; 32]));
            let site = "XYZ".parse().expect("a code");
            w.record_content(content, Sha1Digest([1; 20]), 9, false, now)?;
            let (id, number) = w.next_id(&site)?;
            let file = AppFile { file_name: "setup.exe".parse().expect("a name"), content, size: 9 };
            let (form, files) = (Value::Null, vec![file]);
            let app = AppRow {
                id: id.clone(),
                name: "Portal".to_owned(),
                form,
                retired: false,
                created: now,
                files,
            };
            w.create_app(number, &app)?;
            let lyon = w.add_point("lyon", "http://lyon", PointRole::Standard)?;
            for _ in 0..2 {
                let package = w.software_package(&id, "app", "Portal", now)?;
                assert_eq!(
                    (package.id.clone(), package.access, package.version),
                    (id.clone(), Access::Private, 1)
                );
                assert_eq!(
                    w.bytes_lacking(&[id.clone(), id.clone()], lyon)?,
                    if w.placement(&id, lyon)?.is_some() { 0 } else { 9 }
                );
                w.distribute(&id, OWN_POINT, now)?;
                w.distribute(&id, lyon, now)?;
            }
            let placed = w.placement(&id, lyon)?.expect("it is there");
            assert_eq!((placed.name.as_str(), placed.bytes), ("Portal", 9));
            assert_eq!(w.placed_files(&id, lyon)?.len(), 1);
            assert!(w.shelf()?[0].private && w.private_contents()? == [content]);
            assert_eq!(w.packages()?, [], "it is no deployment package");
            let source_dir = None;
            let new = NewPackage {
                name: "Portal".to_owned(),
                description: String::new(),
                source_dir,
                access: Access::Public,
            };
            w.create_package(&site, &new, now)?;
            assert_eq!(w.packages()?.len(), 1, "and in the way of none of the same name");
            assert_eq!(w.unused_contents()?, []);
            w.withdraw(&id, lyon)?;
            assert_eq!(w.placement(&id, lyon)?, None);
            Ok(())
        };
        runtime.block_on(store.write(change)).unwrap();
    }
}
