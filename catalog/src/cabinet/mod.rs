//! Reading cabinets ([MS-CAB]): stored, MSZIP and LZX, from bytes in memory, under [`Limits`].
//!
//! A folder is decoded once, as one stream, however many files it holds. Names are labels: nothing here ever makes a
//! path of one. Bytes after `cbCabinet` (a signature) are ignored, as every reader does; sets that span several
//! cabinets are refused, and so are files compressed with Quantum, which none of Microsoft's update feeds uses.

mod folder;
#[cfg(test)]
mod tests;

use crate::limits::Limits;
use crate::problem::{Code, Coded};

/// Why a cabinet cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CabinetError {
    /// The structure is wrong, at this byte of the cabinet.
    #[error("malformed cabinet at byte {offset}: {what}")]
    Malformed {
        /// Offset of the structure that is wrong.
        offset: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Compressed data of a folder does not decode.
    #[error("data block {block} of folder {folder} is damaged: {what}")]
    Damaged {
        /// Index of the folder.
        folder: usize,
        /// Index of the data block in it.
        block: usize,
        /// What the decoder said.
        what: String,
    },
    /// It continues in another cabinet.
    #[error("the cabinet is one part of a set of several")]
    Spanned,
    /// A compression that is not read.
    #[error("folder {folder} is compressed with {method}, which is not supported")]
    Unsupported {
        /// Index of the folder.
        folder: usize,
        /// Name of the method.
        method: &'static str,
    },
    /// More than the limits allow.
    #[error("the cabinet has more {what} than the {most} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
}

impl Coded for CabinetError {
    fn code(&self) -> Code {
        match self {
            Self::Malformed { .. } | Self::Damaged { .. } => Code::CabMalformed,
            Self::Spanned => Code::CabSpanned,
            Self::Unsupported { .. } => Code::CabUnsupported,
            Self::TooLarge { .. } => Code::CatalogTooLarge,
        }
    }
}

fn malformed(offset: usize, what: &'static str) -> CabinetError {
    CabinetError::Malformed { offset, what }
}

/// A parsed cabinet over its bytes.
#[derive(Debug)]
pub struct Cabinet<'a> {
    /// Up to `cbCabinet`: what follows is no part of it.
    bytes: &'a [u8],
    folders: Vec<Folder>,
    files: Vec<CabinetFile>,
    data_reserve: usize,
}

/// One file that a cabinet lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CabinetFile {
    /// The name, as a label; lossy where it is not UTF-8.
    pub name: String,
    /// Bytes, as declared.
    pub size: u32,
    folder: usize,
    offset: u32,
}

impl CabinetFile {
    /// Where it ends in its unpacked folder. `Cabinet::parse` has seen that this is at most 2 GiB.
    fn end(&self) -> usize {
        self.offset as usize + self.size as usize
    }
}

#[derive(Debug)]
struct Folder {
    data_offset: usize,
    blocks: u16,
    compression: u16,
}

/// Offset of a little-endian number, checked.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], CabinetError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or(malformed(self.at, what))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }
    fn u8(&mut self, what: &'static str) -> Result<u8, CabinetError> {
        Ok(self.take(1, what)?[0])
    }
    fn u16(&mut self, what: &'static str) -> Result<u16, CabinetError> {
        let b = self.take(2, what)?;
        Ok(u16::from_le_bytes([b[0], b[1]]))
    }
    fn u32(&mut self, what: &'static str) -> Result<u32, CabinetError> {
        let b = self.take(4, what)?;
        Ok(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
    }
    /// A name ends with NUL and has at most 255 bytes ([MS-CAB] section 2.3).
    fn name(&mut self) -> Result<&'a [u8], CabinetError> {
        let rest = &self.bytes[self.at.min(self.bytes.len())..];
        let end =
            rest.iter().take(257).position(|b| *b == 0).ok_or(malformed(self.at, "a name without an end"))?;
        self.at += end + 1;
        Ok(&rest[..end])
    }
}

impl<'a> Cabinet<'a> {
    /// Reads the directory: header, folders and files ([MS-CAB] sections 2.1 to 2.3), and sees that every data block lies
    /// inside the cabinet.
    ///
    /// # Errors
    /// Each [`CabinetError`] but `Damaged` and `Unsupported`: what is in the blocks is looked at when they are read.
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Self, CabinetError> {
        if bytes.len() as u64 > limits.document_bytes {
            return Err(CabinetError::TooLarge { what: "bytes", most: limits.document_bytes });
        }
        const HEADER: &str = "the header is cut short";
        let mut at = Cursor { bytes, at: 0 };
        if at.take(4, HEADER)? != b"MSCF" {
            return Err(malformed(0, "it does not begin with MSCF"));
        }
        at.take(4, HEADER)?;
        let declared = at.u32(HEADER)? as usize;
        at.take(4, HEADER)?;
        let first_file = at.u32(HEADER)? as usize;
        at.take(4, HEADER)?;
        let minor = at.u8(HEADER)?;
        let major = at.u8(HEADER)?;
        if (major, minor) != (1, 3) {
            return Err(malformed(24, "its version is not 1.3"));
        }
        let folder_count = at.u16(HEADER)?;
        let file_count = at.u16(HEADER)?;
        let flags = at.u16(HEADER)?;
        at.take(4, HEADER)?; // set id and index in the set: informative
        if declared > bytes.len() {
            return Err(malformed(8, "it is cut short: fewer bytes than its header declares"));
        }
        let bytes = &bytes[..declared];
        at.bytes = bytes;
        let (mut folder_reserve, mut data_reserve) = (0, 0);
        if flags & 4 != 0 {
            let header_reserve = at.u16(HEADER)?;
            folder_reserve = usize::from(at.u8(HEADER)?);
            data_reserve = usize::from(at.u8(HEADER)?);
            at.take(usize::from(header_reserve), "the reserved area is cut short")?;
        }
        if flags & 3 != 0 {
            return Err(CabinetError::Spanned);
        }
        if folder_count == 0 || file_count == 0 {
            return Err(malformed(26, "it has no folders or no files"));
        }
        if usize::from(file_count) > limits.cabinet_files {
            return Err(CabinetError::TooLarge { what: "files", most: limits.cabinet_files as u64 });
        }
        let mut folders = Vec::with_capacity(usize::from(folder_count));
        for _ in 0..folder_count {
            const FOLDER: &str = "a folder entry is cut short";
            let data_offset = at.u32(FOLDER)? as usize;
            let blocks = at.u16(FOLDER)?;
            let compression = at.u16(FOLDER)?;
            at.take(folder_reserve, FOLDER)?;
            folders.push(Folder { data_offset, blocks, compression });
        }
        at.at = first_file;
        let mut files = Vec::with_capacity(usize::from(file_count));
        let mut most_of_folder = vec![0_u64; folders.len()];
        for _ in 0..file_count {
            const FILE: &str = "a file entry is cut short";
            let place = at.at;
            let size = at.u32(FILE)?;
            let offset = at.u32(FILE)?;
            let folder = at.u16(FILE)?;
            at.take(6, FILE)?; // date, time, attributes
            let name = at.name()?;
            if folder >= 0xFFFD {
                return Err(CabinetError::Spanned);
            }
            let folder = usize::from(folder);
            let most = most_of_folder
                .get_mut(folder)
                .ok_or(malformed(place, "a file names a folder that is not there"))?;
            *most = (*most).max(u64::from(size) + u64::from(offset));
            files.push(CabinetFile {
                name: String::from_utf8_lossy(name).into_owned(),
                size,
                folder,
                offset,
            });
        }
        let unpacked: u64 = most_of_folder.iter().sum();
        if unpacked > limits.unpacked_bytes {
            return Err(CabinetError::TooLarge { what: "unpacked bytes", most: limits.unpacked_bytes });
        }
        for (folder, most) in folders.iter().zip(&most_of_folder) {
            // A block unpacks to at most 32 KiB, so a promise of more is a lie (section 2.4).
            if *most > u64::from(folder.blocks) * folder::BLOCK as u64 {
                return Err(malformed(
                    folder.data_offset,
                    "a folder has fewer data blocks than its files need",
                ));
            }
        }
        let cabinet = Self { bytes, folders, files, data_reserve };
        cabinet.check_blocks()?;
        Ok(cabinet)
    }

    /// Every data block must lie inside the cabinet before any is decoded, and no two folders may share one: 65,535
    /// folders over the same blocks would make hours of work of a small file.
    fn check_blocks(&self) -> Result<(), CabinetError> {
        let mut total = 0;
        for folder in &self.folders {
            let mut at = Cursor { bytes: self.bytes, at: folder.data_offset };
            for _ in 0..folder.blocks {
                const BLOCK: &str = "a data block is cut short";
                at.take(4, BLOCK)?;
                let packed = at.u16(BLOCK)?;
                at.take(2 + self.data_reserve + usize::from(packed), BLOCK)?;
                total += 8 + self.data_reserve + usize::from(packed);
                if total > self.bytes.len() {
                    return Err(malformed(folder.data_offset, "its folders share data blocks"));
                }
            }
        }
        Ok(())
    }

    /// The files, in the order of the directory.
    pub fn files(&self) -> &[CabinetFile] {
        &self.files
    }

    /// Decodes one file, and the part of its folder that stands before it. Many files: [`Cabinet::for_each`].
    ///
    /// # Errors
    /// `Damaged`, `Malformed`, or `Unsupported` where the folder of this file is compressed with another method.
    pub fn read(&self, file: &CabinetFile) -> Result<Vec<u8>, CabinetError> {
        let end = file.end();
        let mut folder = self.unpack(file.folder, end)?;
        folder.truncate(end);
        folder.drain(..file.offset as usize);
        Ok(folder)
    }

    /// Every file with its bytes; each folder is decoded once.
    ///
    /// # Errors
    /// `Damaged`, `Malformed` or `Unsupported`, or what `each` answers.
    pub fn for_each<E: From<CabinetError>>(
        &self,
        mut each: impl FnMut(&CabinetFile, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // Sorted, not searched for each folder: there may be 65,535 of both.
        let mut files: Vec<&CabinetFile> = self.files.iter().collect();
        files.sort_by_key(|file| file.folder);
        for of_folder in files.chunk_by(|one, next| one.folder == next.folder) {
            let end = of_folder.iter().map(|file| file.end()).max().unwrap_or(0);
            let folder = self.unpack(of_folder[0].folder, end)?;
            for file in of_folder {
                each(file, &folder[file.offset as usize..file.end()])?;
            }
        }
        Ok(())
    }
}
