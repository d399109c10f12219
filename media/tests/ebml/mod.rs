//! Films made of bytes, for what no muxer writes: Matroska elements (RFC 9559), and a PNG that promises much.
#![allow(dead_code, reason = "each test binary uses its part")]

/// An element with its length in eight bytes.
pub fn element(id: &[u8], data: &[u8]) -> Vec<u8> {
    let length = u64::try_from(data.len()).unwrap() | 1 << 56;
    [id, &length.to_be_bytes(), data].concat()
}

const EBML: &[u8] = &[0x1a, 0x45, 0xdf, 0xa3];
const SEGMENT: &[u8] = &[0x18, 0x53, 0x80, 0x67];
const TRACKS: &[u8] = &[0x16, 0x54, 0xae, 0x6b];
const CLUSTER: &[u8] = &[0x1f, 0x43, 0xb6, 0x75];
/// A length that is not known.
const UNKNOWN: &[u8] = &[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

fn head() -> Vec<u8> {
    element(EBML, &element(&[0x42, 0x82], b"webm"))
}

fn info() -> Vec<u8> {
    element(&[0x15, 0x49, 0xa9, 0x66], &element(&[0x2a, 0xd7, 0xb1], &1_000_000_u32.to_be_bytes()))
}

/// Ten VP8 keyframes of 320x240 that hold nothing.
fn blocks() -> Vec<u8> {
    let mut out = element(&[0xe7], &[0]);
    for number in 0..10_i16 {
        let frame = [b"\x10\x02\0\x9d\x01\x2a\x40\x01\xf0\0".as_slice(), &[0; 100]].concat();
        out.extend(element(&[0xa3], &[&[0x81], (number * 40).to_be_bytes().as_slice(), &[0x80], &frame].concat()));
    }
    out
}

/// A film of tracks and whatever else stands beside them, with one cluster.
pub fn matroska(parts: &[u8]) -> Vec<u8> {
    // Track entries stand in one element; what is something else follows it.
    let (mut entries, mut rest, mut at) = (Vec::new(), Vec::new(), 0);
    while at < parts.len() {
        let id = if parts[at] == 0xae { 1 } else { 4 };
        let length = u64::from_be_bytes(parts[at + id..at + id + 8].try_into().unwrap()) & !(1 << 56);
        let end = at + id + 8 + usize::try_from(length).unwrap();
        if id == 1 { &mut entries } else { &mut rest }.extend_from_slice(&parts[at..end]);
        at = end;
    }
    let segment = [info(), element(TRACKS, &entries), rest, element(CLUSTER, &blocks())].concat();
    [head(), element(SEGMENT, &segment)].concat()
}

fn video(number: u16, codec: &[u8], width: u32, height: u32) -> Vec<u8> {
    let size = [element(&[0xb0], &width.to_be_bytes()), element(&[0xba], &height.to_be_bytes())].concat();
    let entry = [
        element(&[0xd7], &number.to_be_bytes()),
        element(&[0x73, 0xc5], &number.to_be_bytes()),
        element(&[0x83], &[1]),
        element(&[0x86], codec),
        element(&[0xe0], &size),
    ];
    element(&[0xae], &entry.concat())
}

/// A VP8 track.
pub fn track(number: u16, width: u32, height: u32) -> Vec<u8> {
    video(number, b"V_VP8", width, height)
}

pub fn raw_track(width: u32, height: u32) -> Vec<u8> {
    video(1, b"V_UNCOMPRESSED", width, height)
}

/// Tags of the whole film.
pub fn tags(list: &[(&[u8], &[u8])]) -> Vec<u8> {
    let one = |(key, value): &(&[u8], &[u8])| {
        element(&[0x67, 0xc8], &[element(&[0x45, 0xa3], key), element(&[0x44, 0x87], value)].concat())
    };
    let all: Vec<u8> = list.iter().flat_map(one).collect();
    let tag = [element(&[0x63, 0xc0], &[]), all].concat();
    element(&[0x12, 0x54, 0xc3, 0x67], &element(&[0x73, 0x73], &tag))
}

pub fn chapters(count: u32) -> Vec<u8> {
    let one = |number: u32| {
        let title = element(&[0x85], format!("chapter {number} of very many that nobody will ever look at").as_bytes());
        let atom = [
            element(&[0x73, 0xc4], &(number + 1).to_be_bytes()),
            element(&[0x91], &(u64::from(number) * 1_000_000).to_be_bytes()),
            element(&[0x80], &title),
        ];
        element(&[0xb6], &atom.concat())
    };
    let all: Vec<u8> = (0..count).flat_map(one).collect();
    element(&[0x10, 0x43, 0xa7, 0x70], &element(&[0x45, 0xb9], &all))
}

pub fn attachments(count: u32, bytes: usize) -> Vec<u8> {
    let one = |number: u32| {
        let file = [
            element(&[0x46, 0x6e], format!("font{number}.ttf").as_bytes()),
            element(&[0x46, 0x60], b"font/ttf"),
            element(&[0x46, 0x5c], &vec![0; bytes]),
            element(&[0x46, 0xae], &(number + 1).to_be_bytes()),
        ];
        element(&[0x61, 0xa7], &file.concat())
    };
    let all: Vec<u8> = (0..count).flat_map(one).collect();
    element(&[0x19, 0x41, 0xa4, 0x69], &all)
}

/// A segment and `clusters` clusters that do not say where they end.
pub fn endless(clusters: usize) -> Vec<u8> {
    let cluster = [CLUSTER, UNKNOWN, &blocks()].concat();
    [head(), [SEGMENT, UNKNOWN].concat(), info(), element(TRACKS, &track(1, 320, 240)), cluster.repeat(clusters)]
        .concat()
}

/// A picture sequence of this size of which nothing is there. Its checksums are zero: libav does not look at them.
pub fn animated_png(width: u32, height: u32) -> Vec<u8> {
    let chunk =
        |kind: &[u8], data: &[u8]| [&u32::try_from(data.len()).unwrap().to_be_bytes(), kind, data, &[0; 4]].concat();
    let (width, height) = (width.to_be_bytes(), height.to_be_bytes());
    let header = [width.as_slice(), &height, &[8, 6, 0, 0, 0]].concat();
    let control = [&[0; 4], width.as_slice(), &height, &[0; 8], &[0, 1, 0, 25, 0, 0]].concat();
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        chunk(b"acTL", &[0, 0, 0, 9, 0, 0, 0, 0]),
        chunk(b"fcTL", &control),
        chunk(b"IDAT", b"\x78\x9c\x63\x00\x00\x00\x01\x00\x01"),
        chunk(b"IEND", b""),
    ]
    .concat()
}
