//! Caps on everything foreign. Each field names the attack that it stops.

/// How much of a foreign document we are willing to look at. [`Limits::default`] fits every real document
/// known with a wide margin; tests make them smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Endless data: the most bytes a document may have as it arrives (compressed, if it is).
    pub document_bytes: u64,
    /// Decompression bomb: the most bytes it may unpack to.
    pub unpacked_bytes: u64,
    /// Directory flood: the most files one cabinet may list.
    pub cabinet_files: usize,
    /// Nesting that exhausts the stack or the memory of a reader: elements inside elements.
    pub xml_depth: usize,
    /// Attribute flood: attributes of one element.
    pub xml_attributes: usize,
    /// One endless text: bytes of one attribute value or text node.
    pub xml_text_bytes: usize,
    /// Record flood: the most `<File>` records of one ESD catalog (real ones have up to 3,196).
    pub catalog_files: usize,
    /// Record flood: languages and licence links of one ESD catalog.
    pub catalog_links: usize,
    /// Index flood: the most bytes of a WIM or ESD's XML resource, and images in it.
    pub image_xml_bytes: u64,
    /// Index flood: the most images of one WIM or ESD.
    pub images: usize,
    /// Numbers that overflow whatever adds them: the most bytes that a document may say that one file has. Real ESDs have
    /// six thousand million.
    pub file_bytes: u64,
    /// Record flood: files, languages, articles, clauses and ids of one update document, each (real ones have hundreds).
    pub update_items: usize,
    /// Record flood: the most update documents of one WSUS export (a whole server has some 200,000).
    pub export_documents: usize,
    /// Decompression bomb: the most bytes that a WSUS export may unpack to. It is read in parts, so this is time, not
    /// memory.
    pub export_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 64 << 20,
            unpacked_bytes: 256 << 20,
            cabinet_files: 65_535,
            xml_depth: 64,
            xml_attributes: 64,
            xml_text_bytes: 16 << 20,
            catalog_files: 200_000,
            catalog_links: 10_000,
            image_xml_bytes: 16 << 20,
            images: 1_000,
            file_bytes: 1 << 40,
            update_items: 50_000,
            export_documents: 2_000_000,
            export_bytes: 64 << 30,
        }
    }
}
