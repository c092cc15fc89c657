//! A small LZX compressor and a cabinet around it, for tests and benchmarks: nothing in the ecosystem makes LZX
//! cabinets fast enough, and tests must not depend on files of others.
//!
//! Each 32 KiB frame is one verbatim block ([MS-PATCH] section 2.3; [MS-CAB] section 1.2) with two kinds of elements:
//! any literal (code `1` and the byte) and "repeat the last byte eight times" (code `0`). That exercises the trees,
//! their deltas from block to block, matches over frame borders and the bit order; runs compress eightyfold.

/// Bytes of one frame.
const FRAME: usize = 32 * 1024;
/// Main tree element of the match: position slot 3 (offset 1) and length 8.
const REPEAT: usize = 256 + 3 * 8 + 6;
/// Position slots of a 32 KiB window.
pub const SLOTS: usize = 30;

/// Bits in the order of LZX: 16-bit little-endian words, filled from their highest bit.
#[derive(Default)]
pub struct Bits {
    bytes: Vec<u8>,
    word: u16,
    used: u32,
}

impl Bits {
    /// The lowest `count` bits of `value`.
    pub fn put(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            self.word = self.word << 1 | (value >> bit & 1) as u16;
            self.used += 1;
            if self.used == 16 {
                self.bytes.extend_from_slice(&self.word.to_le_bytes());
                (self.word, self.used) = (0, 0);
            }
        }
    }

    /// The bytes, filled up to a whole word.
    pub fn finish(mut self) -> Vec<u8> {
        while self.used > 0 {
            self.put(0, 1);
        }
        self.bytes
    }

    /// A pretree that can say every difference, then the differences of these path lengths.
    pub fn path_lengths(&mut self, before: &[u8], now: &[u8]) {
        for symbol in 0..20 {
            self.put(
                if symbol < 15 {
                    4
                } else if symbol < 17 {
                    5
                } else {
                    0
                },
                4,
            );
        }
        for (before, now) in before.iter().zip(now) {
            let symbol = (u32::from(*before) + 17 - u32::from(*now)) % 17;
            if symbol < 15 { self.put(symbol, 4) } else { self.put(0b11110 + symbol - 15, 5) }
        }
    }
}

/// The frames of `data`, each with its unpacked length.
pub fn frames(data: &[u8]) -> Vec<(Vec<u8>, u16)> {
    let mut lengths = vec![0_u8; 256 + 8 * SLOTS];
    let mut frames = Vec::new();
    for (index, frame) in data.chunks(FRAME).enumerate() {
        let mut bits = Bits::default();
        if index == 0 {
            bits.put(0, 1); // no E8 translation
        }
        bits.put(1, 3); // a verbatim block
        bits.put(frame.len() as u32, 24);
        let before = lengths.clone();
        lengths[..256].fill(9);
        lengths[REPEAT] = 1;
        bits.path_lengths(&before[..256], &lengths[..256]);
        bits.path_lengths(&before[256..], &lengths[256..]);
        bits.path_lengths(&[0; 249], &[0; 249]);
        let mut at = 0;
        while at < frame.len() {
            let start = index * FRAME + at;
            let run = start > 0
                && frame.len() - at >= 8
                && data[start..start + 8].iter().all(|b| *b == data[start - 1]);
            if run {
                bits.put(0, 1);
                at += 8;
            } else {
                bits.put(0x100 | u32::from(frame[at]), 9);
                at += 1;
            }
        }
        frames.push((bits.finish(), frame.len() as u16));
    }
    frames
}

/// A cabinet of one LZX folder (window 2^15) that holds `files` one after the other; no checksums.
pub fn cabinet(files: &[(&str, &[u8])]) -> Vec<u8> {
    let data: Vec<u8> = files.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    cabinet_of(files, frames(&data))
}

/// The same with frames that somebody else made.
pub fn cabinet_of(files: &[(&str, &[u8])], frames: Vec<(Vec<u8>, u16)>) -> Vec<u8> {
    let directory: usize = files.iter().map(|(name, _)| 16 + name.len() + 1).sum();
    let data_offset = 36 + 8 + directory;
    let mut out = Vec::new();
    out.extend_from_slice(b"MSCF\0\0\0\0");
    let total = data_offset + frames.iter().map(|(bytes, _)| 8 + bytes.len()).sum::<usize>();
    for number in [total as u32, 0, 44, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[3, 1]); // version 1.3
    for number in [1, files.len() as u16, 0, 0, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&(data_offset as u32).to_le_bytes());
    out.extend_from_slice(&(frames.len() as u16).to_le_bytes());
    out.extend_from_slice(&0x0f03_u16.to_le_bytes());
    let mut offset = 0_u32;
    for (name, bytes) in files {
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        offset += bytes.len() as u32;
    }
    for (bytes, unpacked) in frames {
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
        out.extend_from_slice(&unpacked.to_le_bytes());
        out.extend_from_slice(&bytes);
    }
    out
}
