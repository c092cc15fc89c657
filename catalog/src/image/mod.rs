//! Editions and indexes inside a WIM or ESD file: its header and its XML, which every variant keeps uncompressed.
//!
//! Nothing is unpacked: the list of images needs no codec ("Windows Imaging File Format", Microsoft 2012, sections
//! "Header" and "XML data"; checked against wimlib). Image names are localized: never match an edition by name.

mod xml;

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};

use crate::limits::Limits;
use crate::problem::{Code, Coded};

/// Bytes of the header of a WIM or ESD.
pub const HEADER_SIZE: usize = 208;
/// The first eight bytes of the file.
pub const MAGIC: &[u8; 8] = b"MSWIM\0\0\0";
/// Resource flag: stored compressed.
const COMPRESSED: u8 = 0x04;
/// Resource flag: part of a solid resource.
const SOLID: u8 = 0x10;

/// Why a file is no usable WIM or ESD.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The header is none.
    #[error("malformed header: {0}")]
    Header(&'static str),
    /// The XML that lists the images is damaged.
    #[error("malformed image list: {0}")]
    Xml(String),
    /// More than the limits allow.
    #[error("the image list has more {what} than the {most} that are read")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
}

impl Coded for ImageError {
    fn code(&self) -> Code {
        match self {
            Self::Read(_) => Code::DiskError,
            _ => Code::ImageMalformed,
        }
    }
}

/// What a WIM or ESD says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageInfo {
    /// Format version: `0x10d00` for a WIM, `0xe00` for an ESD with solid compression.
    pub version: u32,
    /// How its data is compressed.
    pub compression: Compression,
    /// Bytes that are compressed together; 0 where nothing is. In a solid ESD each solid resource states its own.
    pub chunk_size: u32,
    /// The id of the file, or of the set that it is a part of, in the byte order of the file.
    pub guid: [u8; 16],
    /// Index of the image that a boot loader starts; 0 is none.
    pub boot_index: u32,
    /// Which part of a set this is, and of how many.
    pub part: (u16, u16),
    /// Encrypted, as Windows 10 ESDs once were: the images are listed but only Microsoft's own tool can open them.
    pub encrypted: bool,
    /// The images, in order of their indexes.
    pub images: Vec<Image>,
}

/// How the data of a WIM or ESD is compressed (header flags).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// XPRESS.
    Xpress,
    /// LZX.
    Lzx,
    /// LZMS, as in every ESD.
    Lzms,
}

/// One image: an edition, or in an ESD also the setup media (1), Windows PE (2) and Setup (3).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Index, from 1.
    pub index: u32,
    /// Name, localized.
    pub name: String,
    /// Description, localized.
    pub description: Option<String>,
    /// Display name, localized.
    pub display_name: Option<String>,
    /// `FLAGS`, mostly the edition too.
    pub flags: Option<String>,
    /// `EDITIONID`: Professional, Enterprise, …; the same in every language.
    pub edition_id: Option<String>,
    /// `INSTALLATIONTYPE`: Client, Server, WindowsPE.
    pub installation_type: Option<String>,
    /// Processor architecture, where it is one that we know.
    pub architecture: Option<crate::esd_catalog::Architecture>,
    /// Windows version.
    pub version: Option<WindowsVersion>,
    /// Installed languages.
    pub languages: Vec<String>,
    /// The default one.
    pub default_language: Option<String>,
    /// Bytes of all its files, unpacked.
    pub total_bytes: Option<u64>,
    /// Files in it.
    pub file_count: Option<u64>,
}

/// A version of Windows: 10.0.26200.8246.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowsVersion {
    /// Major.
    pub major: u32,
    /// Minor.
    pub minor: u32,
    /// Build.
    pub build: u32,
    /// Revision of the build (`SPBUILD`).
    pub revision: u32,
}

impl fmt::Display for WindowsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}.{}", self.major, self.minor, self.build, self.revision)
    }
}

impl ImageInfo {
    /// Reads header and XML of `file`, a few hundred KiB at most, wherever they stand.
    ///
    /// # Errors
    /// Each [`ImageError`].
    pub fn read(file: &mut (impl Read + Seek), limits: &Limits) -> Result<Self, ImageError> {
        let length = file.seek(SeekFrom::End(0)).map_err(ImageError::Read)?;
        if length < HEADER_SIZE as u64 {
            return Err(ImageError::Header("the file is shorter than a header"));
        }
        let mut header = [0; HEADER_SIZE];
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_exact(&mut header)).map_err(ImageError::Read)?;
        let header = Header::parse(&header)?;
        if header.xml_size > limits.image_xml_bytes {
            return Err(ImageError::TooLarge { what: "bytes", most: limits.image_xml_bytes });
        }
        if header.boot_index > header.images {
            return Err(ImageError::Header("its boot index names an image that is not there"));
        }
        if header.xml_offset.checked_add(header.xml_size).is_none_or(|end| end > length) {
            return Err(ImageError::Header("its image list lies outside of the file"));
        }
        if u64::from(header.images) > limits.images as u64 {
            return Err(ImageError::TooLarge { what: "images", most: limits.images as u64 });
        }
        let mut list =
            vec![0; usize::try_from(header.xml_size).map_err(|_| ImageError::Header("too large"))?];
        file.seek(SeekFrom::Start(header.xml_offset))
            .and_then(|_| file.read_exact(&mut list))
            .map_err(ImageError::Read)?;
        let (images, encrypted) = xml::images(&list, limits)?;
        if images.len() as u64 != u64::from(header.images) {
            return Err(ImageError::Xml(format!(
                "{} images are listed, the header says {}",
                images.len(),
                header.images
            )));
        }
        Ok(Self {
            version: header.version,
            compression: header.compression,
            chunk_size: header.chunk_size,
            guid: header.guid,
            boot_index: header.boot_index,
            part: header.part,
            encrypted,
            images,
        })
    }
}

/// The header, checked as far as it can be without the rest of the file.
struct Header {
    version: u32,
    compression: Compression,
    chunk_size: u32,
    guid: [u8; 16],
    part: (u16, u16),
    images: u32,
    xml_offset: u64,
    xml_size: u64,
    boot_index: u32,
}

impl Header {
    /// All numbers are little-endian.
    fn parse(bytes: &[u8; HEADER_SIZE]) -> Result<Self, ImageError> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if &bytes[..8] != MAGIC {
            return Err(ImageError::Header("it does not begin with MSWIM"));
        }
        if u32_at(8) as usize != HEADER_SIZE {
            return Err(ImageError::Header("its header has another length than 208"));
        }
        let version = u32_at(12);
        if !matches!(version, 0x10d00 | 0xe00) {
            return Err(ImageError::Header("its version is neither that of a WIM nor that of an ESD"));
        }
        let flags = u32_at(16);
        // FLAG_HEADER_COMPRESSION, and which one.
        let compression = match (flags & 0x2, flags & 0x20000, flags & 0x40000, flags & 0x80000) {
            (0, ..) => Compression::None,
            (_, 0x20000, 0, 0) => Compression::Xpress,
            (_, 0, 0x40000, 0) => Compression::Lzx,
            (_, 0, 0, 0x80000) => Compression::Lzms,
            _ => return Err(ImageError::Header("its compression is none that is known")),
        };
        let part = (u16_at(40), u16_at(42));
        if part.0 == 0 || part.0 > part.1 {
            return Err(ImageError::Header("its part number is not one of its parts"));
        }
        let mut guid = [0; 16];
        guid.copy_from_slice(&bytes[24..40]);
        // A resource entry: 7 bytes of size and one of flags, offset, size unpacked.
        let xml = u64_at(72);
        let (xml_size, xml_flags) = (xml & 0x00ff_ffff_ffff_ffff, bytes[79]);
        if xml_flags & (COMPRESSED | SOLID) != 0 || xml_size != u64_at(88) {
            return Err(ImageError::Header("its image list is compressed, which no writer does"));
        }
        Ok(Self {
            version,
            compression,
            chunk_size: u32_at(20),
            guid,
            part,
            images: u32_at(44),
            xml_offset: u64_at(80),
            xml_size,
            boot_index: u32_at(120),
        })
    }
}

#[cfg(test)]
mod tests;
