use super::*;

const SPS: [u8; 6] = [0x67, 100, 0, 31, 0x80, 9];
const PPS: [u8; 3] = [0x68, 0x80, 7];

fn avcc() -> Vec<u8> {
    let mut out = vec![1, 100, 0, 31, 0xff, 0xe1, 0, 6];
    out.extend(SPS);
    out.extend([1, 0, 3]);
    out.extend(PPS);
    out
}

fn prefixed_nals(nals: &[&[u8]]) -> Vec<u8> {
    nals.iter().flat_map(|nal| [&u32::try_from(nal.len()).unwrap().to_be_bytes()[..], nal].concat()).collect()
}

fn annex_b_nals(nals: &[&[u8]]) -> Vec<u8> {
    nals.iter().flat_map(|nal| [&[0, 0, 0, 1][..], nal].concat()).collect()
}

#[test]
fn only_idr_pictures_of_h264_are_closed() {
    let (idr, i_frame): (&[u8], &[u8]) = (&[0x65, 1], &[0x61, 1]);
    let mut mp4 = Scanner::new("h264", &avcc(), false);
    let mut raw = Scanner::new("h264", &[], false);
    for (nals, closed) in [(&[&SPS[..], &PPS, idr][..], true), (&[&[0x06, 6, 1], i_frame][..], false)] {
        assert_eq!(mp4.look(&prefixed_nals(nals), true), Seen { closed, ..Seen::default() });
        assert_eq!(raw.look(&annex_b_nals(nals), true), Seen { closed, ..Seen::default() });
    }
}

#[test]
fn an_exact_recovery_point_recovers() {
    let i_frame: &[u8] = &[0x61, 1];
    let mut scanner = Scanner::new("h264", &[], false);
    // After another message (type 5, two bytes): the count of frames, exact_match_flag.
    for (payload, recovers) in [(0xc4, true), (0x84, false), (0x54, false)] {
        let sei: &[u8] = &[0x06, 5, 2, 9, 9, 6, 1, payload, 0x80];
        let seen = scanner.look(&annex_b_nals(&[sei, i_frame]), true);
        assert_eq!(seen, Seen { recovers, ..Seen::default() }, "payload {payload:#x}");
    }
    let cut_short: &[u8] = &[0x06, 6, 200, 0xc4];
    assert!(!scanner.look(&annex_b_nals(&[cut_short, i_frame]), true).recovers);
}

#[test]
fn a_new_parameter_set_of_the_same_id_is_a_change() {
    let mut scanner = Scanner::new("h264", &avcc(), false);
    let other_id: &[u8] = &[0x68, 0x40, 9];
    let changed: &[u8] = &[0x68, 0x80, 8];
    assert!(!scanner.look(&prefixed_nals(&[&PPS, other_id, &[0x61]]), false).changed);
    assert!(scanner.look(&prefixed_nals(&[changed, &[0x61]]), false).changed);
    assert!(!scanner.look(&prefixed_nals(&[changed, &[0x61]]), false).changed);
}

#[test]
fn hevc_is_entered_at_idr_and_bla_and_recovers_at_cra() {
    let mut scanner = Scanner::new("hevc", &[], false);
    for (kind, closed) in [(16, true), (19, true), (20, true), (21, false), (1, false), (9, false)] {
        let slice = [kind << 1, 1, 0x80];
        let seen = scanner.look(&annex_b_nals(&[&slice]), true);
        assert_eq!((seen.closed, seen.recovers), (closed, kind == 21), "NAL type {kind}");
    }
}

#[test]
fn other_codecs_tell_in_their_first_bits() {
    let look = |codec, data: &[u8]| Scanner::new(codec, &[], false).look(data, true);
    let seen = |closed, hidden| Seen { closed, hidden, ..Seen::default() };
    for (codec, data, expected) in [
        ("vp8", &[0x10][..], seen(true, false)),
        ("vp8", &[0x11], seen(false, false)),
        ("vp8", &[0x01], seen(false, true)),
        ("vp9", &[0x82, 0], seen(true, false)),
        ("vp9", &[0x86, 0], seen(false, false)),
        ("vp9", &[0x84, 0], seen(false, true)),
        // Hidden, but a superframe shows its last frame.
        ("vp9", &[0x84, 0xc1], seen(false, false)),
        // Temporal delimiter, sequence header, key frame that is shown.
        ("av1", &[0x12, 0, 0x0a, 1, 0, 0x32, 1, 0x10], seen(true, false)),
        ("av1", &[0x12, 0, 0x32, 1, 0x10], seen(false, false)),
        ("av1", &[0x12, 0, 0x0a, 1, 0, 0x32, 1, 0x30], seen(false, false)),
        ("mpeg2video", &[0, 0, 1, 0xb8, 0, 8, 0, 0x40, 0, 0, 1, 0], seen(true, false)),
        ("mpeg2video", &[0, 0, 1, 0xb8, 0, 8, 0, 0, 0, 0, 1, 0], seen(false, false)),
        ("mpeg2video", &[0, 0, 1, 0], seen(false, false)),
        ("mpeg4", &[0, 0, 1, 0xb3, 0, 0, 0x20, 0, 0, 1, 0xb6], seen(true, false)),
        ("wmv2", &[1, 2, 3], seen(false, false)),
    ] {
        let expected = Seen { recovers: codec.starts_with("mpeg"), ..expected };
        assert_eq!(look(codec, data), expected, "{codec} {data:02x?}");
    }
    assert!(Scanner::new("prores", &[], true).look(&[0], true).closed);
}

#[test]
fn no_bytes_make_it_panic() {
    use proptest::prelude::*;
    let codecs = ["h264", "hevc", "vp8", "vp9", "av1", "mpeg2video", "mpeg4"];
    proptest!(|(
        codec in 0..codecs.len(),
        extradata in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..60),
        data in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..80),
    )| {
        Scanner::new(codecs[codec], &extradata, false).look(&data, true);
    });
}
