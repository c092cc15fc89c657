//! Decoding the data blocks of one folder ([MS-CAB] section 2.4).

use std::panic::{AssertUnwindSafe, catch_unwind};

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};

use super::{Cabinet, CabinetError, Cursor};

/// The most bytes that one data block unpacks to.
pub(super) const BLOCK: usize = 32 * 1024;

impl Cabinet<'_> {
    /// The first `wanted` bytes of a folder, or more: up to the end of the block that holds the last of them.
    pub(super) fn unpack(&self, index: usize, wanted: usize) -> Result<Vec<u8>, CabinetError> {
        let folder = &self.folders[index];
        let mut unpacker = Unpacker::new(folder.compression)
            .map_err(|method| CabinetError::Unsupported { folder: index, method })?;
        // Grown as blocks decode: a declared size alone reserves nothing.
        let mut out = Vec::new();
        let mut at = Cursor { bytes: self.bytes, at: folder.data_offset };
        for block in 0..usize::from(folder.blocks) {
            if out.len() >= wanted {
                break;
            }
            let damaged = |what: String| CabinetError::Damaged { folder: index, block, what };
            const CUT: &str = "a data block is cut short";
            let checksum = at.u32(CUT)?;
            let packed_len = at.u16(CUT)?;
            let unpacked_len = at.u16(CUT)?;
            let reserve = at.take(self.data_reserve, CUT)?;
            let packed = at.take(usize::from(packed_len), CUT)?;
            if unpacked_len == 0 {
                return Err(damaged("it continues in another cabinet".to_owned()));
            }
            if checksum != 0 && checksum != block_checksum(packed_len, unpacked_len, reserve, packed) {
                return Err(damaged("its checksum is wrong".to_owned()));
            }
            unpacker.block(packed, usize::from(unpacked_len), &mut out).map_err(damaged)?;
        }
        if out.len() < wanted {
            let block = usize::from(folder.blocks);
            return Err(CabinetError::Damaged {
                folder: index,
                block,
                what: "the folder ends too early".to_owned(),
            });
        }
        Ok(out)
    }
}

enum Unpacker {
    Stored,
    MsZip(Box<DecompressorOxide>),
    Lzx(Box<lzxd::Lzxd>),
}

impl Unpacker {
    /// By the folder's `typeCompress` ([MS-CAB] section 2.2), or the name of a method that is not read.
    fn new(compression: u16) -> Result<Self, &'static str> {
        use lzxd::WindowSize as W;
        const WINDOWS: [W; 7] = [W::KB32, W::KB64, W::KB128, W::KB256, W::KB512, W::MB1, W::MB2];
        match compression & 0xF {
            0 => Ok(Self::Stored),
            1 => Ok(Self::MsZip(Box::default())),
            2 => Err("Quantum"),
            // The window is 2 to the power of bits 8 to 12: 15 to 21 (section 2.2).
            3 => match usize::from(compression >> 8 & 0x1F).checked_sub(15).and_then(|n| WINDOWS.get(n)) {
                Some(window) => Ok(Self::Lzx(Box::new(lzxd::Lzxd::new(*window)))),
                None => Err("LZX of an impossible window"),
            },
            _ => Err("an unknown method"),
        }
    }

    fn block(&mut self, packed: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if len > BLOCK {
            return Err(format!("it declares {len} bytes, a block has at most {BLOCK}"));
        }
        match self {
            Self::Stored if packed.len() == len => out.extend_from_slice(packed),
            Self::Stored => return Err("a stored block has another length than it declares".to_owned()),
            Self::MsZip(inflate) => {
                // "CK", then a deflate stream whose window is all that came before in this folder ([MS-MCI] 2.1).
                let deflated = packed.strip_prefix(b"CK").ok_or("an MSZIP block does not begin with CK")?;
                let start = out.len();
                out.resize(start + len, 0);
                inflate.init();
                let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
                // The decoder looks back at most 32 KiB: give it no more, so that its work stays linear.
                let window = start.saturating_sub(BLOCK);
                let (status, _, written) =
                    decompress(inflate, deflated, &mut out[window..], start - window, flags);
                if status != TINFLStatus::Done || written != len {
                    return Err(format!("inflate stopped ({status:?}) after {written} of {len} bytes"));
                }
            }
            Self::Lzx(lzx) => {
                // The decoder is foreign code on foreign bytes: a panic of it is an error of theirs, not the end of us.
                let decoded = catch_unwind(AssertUnwindSafe(|| {
                    lzx.decompress_next(packed, len)
                        .map(|bytes| bytes.to_vec())
                        .map_err(|error| error.to_string())
                }));
                let bytes = decoded.map_err(|_| "the LZX decoder gave up".to_owned())??;
                if bytes.len() != len {
                    return Err(format!("LZX gave {} of {len} bytes", bytes.len()));
                }
                out.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }
}

/// The checksum of a data block: over the reserve and the data, seeded with the two lengths ([MS-CAB] section 3.1).
fn block_checksum(packed: u16, unpacked: u16, reserve: &[u8], data: &[u8]) -> u32 {
    let seed = xor(data, 0);
    let mut head = Vec::with_capacity(4 + reserve.len());
    head.extend_from_slice(&packed.to_le_bytes());
    head.extend_from_slice(&unpacked.to_le_bytes());
    head.extend_from_slice(reserve);
    xor(&head, seed)
}

fn xor(bytes: &[u8], seed: u32) -> u32 {
    let mut words = bytes.chunks_exact(4);
    let sum = words.by_ref().fold(seed, |sum, w| sum ^ u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
    // The last one to three bytes go in big-endian order: an oddity of the format, not ours.
    words.remainder().iter().fold(0, |last: u32, byte| last << 8 | u32::from(*byte)) ^ sum
}
