//! A look at SQLite's write-ahead log before SQLite takes it up.
//!
//! SQLite takes a write-ahead log up to its first bad frame and forgets the rest without a word. After a crash the
//! rest is a write that was cut off: nobody was told that it is durable. But a frame that went bad later,
//! in the middle, would take away commits that were acknowledged. The two can be told apart: every commit is synced before
//! the next is begun, so a cut-off write has at most one commit after the first bad frame, and nothing after that.
//! Damage in the very last commit looks like a cut-off write, and so may damage in the one before; all else is found.
//! The format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::{
    fs::File,
    io::{self, BufReader, ErrorKind, Read},
    path::Path,
};

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The lowest bit says that the checksums read the words as big-endian.
const MAGIC: u32 = 0x377f_0682;
const PAGE_BYTES_MAX: u32 = 65_536;

/// What a write-ahead log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wal {
    /// There is none, or nothing in it.
    Empty,
    /// All of it is good.
    Whole,
    /// It ends with a write that was cut off; so many bytes of it are forgotten.
    CutOff {
        /// Their number.
        bytes: u64,
    },
    /// Something in its middle is bad.
    Damaged,
}

/// Reads the write-ahead log at `path`.
pub(super) fn look(path: &Path) -> io::Result<Wal> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Wal::Empty),
        Err(error) => return Err(error),
    };
    let size = file.metadata()?.len();
    look_through(BufReader::with_capacity(1 << 20, file), size)
}

fn look_through(mut reader: impl Read, size: u64) -> io::Result<Wal> {
    let mut header = [0; HEADER_BYTES];
    if size == 0 || !read_whole(&mut reader, &mut header)? {
        return Ok(Wal::Empty);
    }
    let Some(format) = Format::of(&header) else {
        // A header is synced before the first frame is written after it, so with frames after it, it went bad.
        let has_frames = size > (HEADER_BYTES + FRAME_HEADER_BYTES) as u64;
        return Ok(if has_frames { Wal::Damaged } else { Wal::Empty });
    };
    let mut frame = vec![0; FRAME_HEADER_BYTES + format.page_bytes];
    let mut sums = format.sums;
    let mut good = true;
    let mut place = HEADER_BYTES as u64;
    let mut committed_through = place;
    // Where the last frame of this log ends; behind it may be frames of an earlier one, with other salts.
    let mut ends = place;
    let mut commits_after_bad = 0;
    while read_whole(&mut reader, &mut frame)? {
        place += frame.len() as u64;
        let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
        let ours = head[8..16] == format.salts;
        if good {
            let next = format.sum(format.sum(sums, &head[..8]), page);
            good = ours && word(head, 16) == next.0 && word(head, 20) == next.1;
            sums = next;
        }
        if !ours {
            continue;
        }
        ends = place;
        let is_commit = word(head, 4) != 0;
        if good && is_commit {
            committed_through = place;
        } else if !good {
            if commits_after_bad > 0 {
                return Ok(Wal::Damaged);
            }
            commits_after_bad += u32::from(is_commit);
        }
    }
    // A frame that is not there in full.
    if place < size && ends == place {
        ends = size;
    }
    Ok(match ends - committed_through {
        0 if ends == HEADER_BYTES as u64 => Wal::Empty,
        0 => Wal::Whole,
        bytes => Wal::CutOff { bytes },
    })
}

struct Format {
    page_bytes: usize,
    salts: [u8; 8],
    big_endian: bool,
    sums: (u32, u32),
}

impl Format {
    fn of(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let magic = word(header, 0);
        let page_bytes = word(header, 8);
        if magic & !1 != MAGIC || !page_bytes.is_power_of_two() || !(512..=PAGE_BYTES_MAX).contains(&page_bytes) {
            return None;
        }
        let mut format = Self {
            page_bytes: usize::try_from(page_bytes).ok()?,
            salts: header[16..24].try_into().ok()?,
            big_endian: magic & 1 == 1,
            sums: (0, 0),
        };
        format.sums = format.sum((0, 0), &header[..24]);
        (format.sums == (word(header, 24), word(header, 28))).then_some(format)
    }

    /// Carries the running checksum over bytes whose number is a multiple of eight.
    fn sum(&self, (mut first, mut second): (u32, u32), bytes: &[u8]) -> (u32, u32) {
        let read = |word: [u8; 4]| if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) };
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            first = first.wrapping_add(read([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(read([e, f, g, h])).wrapping_add(first);
        }
        (first, second)
    }
}

/// A big-endian word of a header.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.iter().skip(at).take(4).fold(0, |word, byte| (word << 8) | u32::from(*byte))
}

/// Fills the buffer, or says that there is not so much left.
fn read_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_BYTES: usize = 512;
    const FRAME_BYTES: usize = FRAME_HEADER_BYTES + PAGE_BYTES;

    /// A log of these frames, of which the ones that are true end a commit.
    fn log(magic: u32, salt: u8, page_bytes: u32, frames: &[bool]) -> Vec<u8> {
        let mut log = vec![0; HEADER_BYTES];
        log[..4].copy_from_slice(&magic.to_be_bytes());
        log[8..12].copy_from_slice(&page_bytes.to_be_bytes());
        log[16..24].fill(salt);
        let mut format = Format { page_bytes: PAGE_BYTES, salts: [salt; 8], big_endian: magic & 1 == 1, sums: (0, 0) };
        format.sums = format.sum((0, 0), &log[..24]);
        let told = |(first, second): (u32, u32)| [first.to_be_bytes(), second.to_be_bytes()].concat();
        log[24..].copy_from_slice(&told(format.sums));
        for (number, is_commit) in (1..).zip(frames) {
            let page = [number; PAGE_BYTES];
            let head = [[0, 0, 0, number], [0, 0, 0, u8::from(*is_commit)]].concat();
            format.sums = format.sum(format.sum(format.sums, &head), &page);
            log.extend([&head, &[salt; 8][..], &told(format.sums), &page].concat());
        }
        log
    }

    fn seen(log: &[u8]) -> Wal {
        look_through(log, log.len() as u64).unwrap()
    }

    #[test]
    fn a_log_that_is_cut_at_any_place_is_told() {
        for magic in [MAGIC, MAGIC | 1] {
            let log = log(magic, 7, 512, &[false, true, true, false]);
            for length in 0..=log.len() {
                let frames = length.saturating_sub(HEADER_BYTES) / FRAME_BYTES;
                let committed = HEADER_BYTES + FRAME_BYTES * if frames < 2 { 0 } else { frames.min(3) };
                let expected = match length.saturating_sub(committed) {
                    0 if frames == 0 => Wal::Empty,
                    0 => Wal::Whole,
                    bytes => Wal::CutOff { bytes: bytes as u64 },
                };
                assert_eq!(seen(&log[..length]), expected, "{length}");
            }
        }
    }

    #[test]
    fn a_bad_frame_is_damage_where_more_than_one_commit_may_be_behind_it() {
        let bad = |frames: &[bool], at: usize| {
            let mut log = log(MAGIC, 7, 512, frames);
            log[HEADER_BYTES + at * FRAME_BYTES + FRAME_HEADER_BYTES] ^= 1;
            seen(&log)
        };
        assert_eq!(bad(&[true, false, true], 1), Wal::CutOff { bytes: 2 * FRAME_BYTES as u64 });
        assert_eq!(bad(&[true, true], 1), Wal::CutOff { bytes: FRAME_BYTES as u64 });
        assert_eq!(bad(&[true, false, true, false], 1), Wal::Damaged);
        assert_eq!(bad(&[true, true, false], 1), Wal::Damaged);
    }

    #[test]
    fn a_bad_header_is_damage_where_there_may_be_frames() {
        for (magic, page_bytes) in [(MAGIC ^ 4, 512), (MAGIC, 513), (MAGIC, 256), (MAGIC, 131_072)] {
            let log = log(magic, 7, page_bytes, &[true]);
            let most = HEADER_BYTES + FRAME_HEADER_BYTES;
            assert_eq!(seen(&log[..most]), Wal::Empty, "{magic:x} {page_bytes}");
            assert_eq!(seen(&log[..=most]), Wal::Damaged, "{magic:x} {page_bytes}");
        }
        let mut log = log(MAGIC, 7, 512, &[true]);
        log[31] ^= 1;
        assert_eq!(seen(&log), Wal::Damaged);
    }

    #[test]
    fn what_an_earlier_log_left_behind_is_no_part_of_it() {
        let earlier = log(MAGIC, 6, 512, &[false, false, true]);
        let again = log(MAGIC, 7, 512, &[true]);
        for cut in [0, 1, FRAME_BYTES] {
            let both = [&again[..], &earlier[again.len()..earlier.len() - cut]].concat();
            assert_eq!(seen(&both), Wal::Whole, "{cut}");
        }
    }
}
