//! Filters that look at neighbours, change the number of pictures, or remember the whole film: in chunks, or unsplit with the reason
//! told, they give ffmpeg's pictures.

use spool_media::av::packet::{SIDE_CONTENT_LIGHT, SIDE_MASTERING_DISPLAY};
use spool_media::piece::Kind;
use spool_proto::spec::{Overlay, ToneMap};

use super::*;

fn filtered(chain: &str) -> EncodeSpec {
    let video = VideoSpec { filters: parse::filters(chain).unwrap(), gop_frames: Some(25), ..video() };
    EncodeSpec { video: Some(video), chunk: Some(Span::from_millis(1000)), ..spec() }
}

/// Encodes with the chain in chunks, compares with ffmpeg.
fn check_chain(film: &Path, chain: &str) -> Made {
    eprintln!("{} through {chain}", film.display());
    check(film, &filtered(chain), &format!("-vf {chain} -g 25"))
}

fn unsplit_reason(made: &Made) -> Option<&str> {
    made.summary.video.as_ref().unwrap().unsplit_reason.as_deref()
}

impl Films {
    /// Fields of a moving picture, 25 frames a second.
    fn interlaced(&self, name: &str, seconds: u32) -> PathBuf {
        let path = self.0.path().join(name);
        let args = format!(
            "-f lavfi -i testsrc2=size=128x96:rate=50:duration={seconds} -vf tinterlace=interleave_top,setfield=tff -pix_fmt yuv420p \
             -c:v libx264 -preset ultrafast -g 25 -bf 2 -flags +ilme+ildct -x264-params tff=1"
        );
        ffmpeg(&args, &path);
        path
    }
}

#[test]
fn neighbours_across_a_cut_are_those_of_the_whole_film() {
    let films = Films::new();
    let film = films.interlaced("fields.mp4", 4);
    for (chain, frames) in [
        ("yadif", 100),
        ("bwdif=send_frame:tff", 100),
        ("yadif=send_field", 200),
        ("bwdif", 200),
        ("yadif=1:deint=all,scale=96:-2,hflip", 200),
        ("yadif,fps=20", 80),
        ("bwdif,fps=30", 120),
        ("atadenoise=s=7", 100),
        ("yadif=0,atadenoise=0a=0.1:0b=0.3:s=5", 100),
    ] {
        let made = check_chain(&film, chain);
        assert!(chunks(&made) > 2, "{chain}: {:?}", unsplit_reason(&made));
        assert_eq!(made.manifests.iter().map(|m| m.units).sum::<u64>(), frames, "{chain}");
        assert!(made.manifests.iter().all(|m| m.entry == "keyframe"), "{chain}: {:?}", entries(&made));
    }
    let trim = Trim { start: Some(Span::from_millis(1030)), duration: Some(Span::from_millis(1990)) };
    for container in [Container::Mp4, Container::Mkv] {
        let made = check(
            &film,
            &EncodeSpec { trim, container, chunk: Some(Span::from_millis(500)), ..filtered("bwdif") },
            "-vf bwdif -g 25 -ss 1.03 -t 1.99",
        );
        assert!(chunks(&made) > 1, "{container:?}");
    }
}

#[test]
fn filters_that_look_at_one_picture_are_ffmpegs() {
    let films = Films::new();
    let film = films.make("plain.mp4", 3, "-c:v libx264 -preset ultrafast -g 25");
    for chain in [
        "nlmeans=s=3:r=5",
        "unsharp=5:5:0.8",
        "deband=range=8:coupling=1",
        "eq=contrast=1.1:saturation=0.8,setsar=4/3",
        "transpose=clock,vflip,setdar=16/9",
        "colorspace=all=bt709:iall=bt601-6-625",
    ] {
        let made = check_chain(&film, chain);
        assert!(chunks(&made) > 1, "{chain}: {:?}", unsplit_reason(&made));
    }
}

#[test]
fn what_remembers_the_film_is_not_split_and_says_why() {
    let films = Films::new();
    let fields = films.interlaced("fields.mp4", 3);
    let telecined = films.0.path().join("telecined.mkv");
    ffmpeg(
        "-f lavfi -i testsrc2=size=128x96:rate=24000/1001:duration=4 -vf telecine -pix_fmt yuv420p -c:v libx264 -preset ultrafast \
         -g 25 -flags +ilme+ildct",
        &telecined,
    );
    for (film, chain, says) in [
        (&fields, "hqdn3d=4:3:6:4.5", "hqdn3d"),
        (&telecined, "fieldmatch,decimate", "fieldmatch"),
        (&telecined, "pullup,fps=24000/1001", "pullup"),
        (&fields, "fps=10,yadif", "in front"),
        (&fields, "bwdif=deint=interlaced", "only decoding tells"),
        (&fields, "hqdn3d,yadif=1,fps=40", "hqdn3d"),
    ] {
        let made = check_chain(film, chain);
        assert_eq!(chunks(&made), 1, "{chain}");
        assert!(
            unsplit_reason(&made).is_some_and(|reason| reason.contains(says)),
            "{chain}: {:?}",
            unsplit_reason(&made)
        );
    }
    let trim = Trim { start: Some(Span::from_millis(530)), duration: Some(Span::from_millis(1010)) };
    check(&fields, &EncodeSpec { trim, ..filtered("hqdn3d,fps=30") }, "-vf hqdn3d,fps=30 -g 25 -ss 0.53 -t 1.01");
}

#[test]
fn a_change_of_size_loses_what_the_filters_held_as_in_ffmpeg() {
    let films = Films::new();
    let first = films.make("first.ts", 2, "-c:v libx264 -preset ultrafast -g 25 -bf 0");
    let second = films.0.path().join("second.ts");
    ffmpeg(
        "-f lavfi -i testsrc2=size=256x144:rate=25:duration=2 -pix_fmt yuv420p -c:v libx264 -preset ultrafast -bf 0 -output_ts_offset 2",
        &second,
    );
    let both = films.0.path().join("both.ts");
    std::fs::write(&both, [std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap()].concat()).unwrap();
    for chain in ["yadif", "bwdif", "hqdn3d", "atadenoise=s=5,fps=10"] {
        check_chain(&both, chain);
    }
}

#[test]
fn interlaced_films_of_the_corpus_are_deinterlaced_as_by_ffmpeg() {
    let Some(folder) = corpus("odd") else {
        eprintln!("skipped: no corpus beside the workspace");
        return;
    };
    for (name, chain) in [
        ("interlaced__h264_tff_25i_opengop.mp4", "yadif"),
        ("interlaced__h264_tff_25i_opengop.mp4", "bwdif"),
        ("interlaced__xdcam_ex_1080i50.mov", "bwdif=send_frame,scale=320:-2"),
        ("mxf__imx_pal_interlaced.mxf", "yadif=1"),
        ("interlaced__h264_bff.mkv", "yadif=1,format=yuv420p"),
        ("telecine__hard_32_mpeg2.vob", "fieldmatch,yadif=deint=interlaced,decimate"),
    ] {
        let film = folder.join(name);
        if film.exists() {
            check_chain(&film, chain);
        } else {
            eprintln!("skipped: {name} is not there");
        }
    }
}

#[test]
fn hdr_is_brought_down_to_sdr_as_by_ffmpeg() {
    let Some(folder) = corpus("odd") else {
        eprintln!("skipped: no corpus beside the workspace");
        return;
    };
    for name in ["hdr10__av1_portrait.mp4", "hdr10__hevc_tags_attachment_rotated.mkv", "hlg__hevc_1080p.mp4"] {
        let film = folder.join(name);
        if !film.exists() {
            eprintln!("skipped: {name} is not there");
            continue;
        }
        let tonemap = Some(ToneMap::Hable);
        let plain = filtered("scale=64:-2");
        let spec = EncodeSpec {
            video: plain.video.map(|video| VideoSpec { tonemap, ..video }),
            trim: Trim { start: None, duration: Some(Span::from_millis(1500)) },
            chunk: Some(Span::from_millis(500)),
            ..plain
        };
        let chain = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,tonemap=hable:desat=0,zscale=t=bt709:m=bt709:r=tv,\
                     format=yuv420p,scale=64:-2";
        // zscale's slices are not quite independent: its pictures depend on the threads.
        let made = check(&film, &spec, &format!("-filter_threads 1 -vf {chain} -g 25 -t 1.5"));
        let reader = PieceReader::open(File::open(&made.pieces[0]).unwrap()).unwrap();
        let parameters = reader.parameters();
        let Kind::Video { color_primaries, color_transfer, color_space, color_range, .. } = parameters.kind else {
            panic!("{name}: {:?}", parameters.kind);
        };
        assert_eq!(
            (color_primaries, color_transfer, color_space, color_range),
            (1, 1, 1, 1),
            "{name}: BT.709, limited"
        );
        let of_hdr = [SIDE_MASTERING_DISPLAY, SIDE_CONTENT_LIGHT];
        assert!(
            !parameters.side_data.iter().any(|(kind, _)| of_hdr.contains(kind)),
            "{name}: {:?}",
            parameters.side_data
        );
        assert!(!made.warnings.contains(&"not_hdr".to_owned()), "{name}: {:?}", made.warnings);
    }
    let films = Films::new();
    let sdr = films.make("sdr.mp4", 1, "-c:v libx264 -preset ultrafast");
    let plain = spec();
    let spec =
        EncodeSpec { video: plain.video.map(|video| VideoSpec { tonemap: Some(ToneMap::Mobius), ..video }), ..plain };
    let made = check(&sdr, &spec, "");
    assert!(made.warnings.contains(&"not_hdr".to_owned()), "{:?}", made.warnings);
}

#[test]
fn black_bars_are_found_and_cropped_alike_in_all_chunks() {
    let films = Films::new();
    let barred = films.0.path().join("barred.mp4");
    ffmpeg(
        "-f lavfi -i testsrc2=size=192x80:rate=25:duration=6 -vf pad=192:108:0:14,fade=in:0:25 -pix_fmt yuv420p -c:v libx264 -crf 10 \
         -preset ultrafast -g 25",
        &barred,
    );
    let plain = filtered("scale=96:-2");
    let with = |crop_bars| EncodeSpec {
        video: plain.video.clone().map(|video| VideoSpec { crop_bars, ..video }),
        ..plain.clone()
    };
    let made = check(&barred, &with(true), "-vf crop=192:80:0:14,scale=96:-2 -g 25");
    assert!(chunks(&made) > 2);
    assert_eq!(made.warnings, ["crop_detected"]);
    let full = films.make("full.mp4", 2, "-c:v libx264 -preset ultrafast -g 25");
    assert_eq!(check(&full, &with(true), "-vf scale=96:-2 -g 25").warnings, ["no_bars"]);
    let night = films.0.path().join("night.mp4");
    ffmpeg("-f lavfi -i color=0x060606:size=192x108:rate=25:duration=2 -pix_fmt yuv420p -c:v libx264 -g 25", &night);
    assert_eq!(check(&night, &with(true), "-vf scale=96:-2 -g 25").warnings, ["no_bars"]);
}

#[test]
fn a_logo_is_laid_over_the_film_as_by_ffmpeg() {
    let films = Films::new();
    let film = films.make("film.mp4", 4, "-c:v libx264 -preset ultrafast -g 25 -bf 2");
    let logo = films.0.path().join("logo.png");
    ffmpeg("-f lavfi -i testsrc=size=40x20:rate=1,format=rgba,colorchannelmixer=aa=0.7 -frames:v 1", &logo);
    let seconds = |s: &str| Some(parse::time(s).unwrap());
    for (at, opacity_percent, from, to, chain, laid) in [
        ("10:6", 100, None, None, "", "[0:v][1:v]overlay=10:6:format=auto"),
        (
            "bottom-right:8:4",
            50,
            seconds("0.5"),
            seconds("2.48"),
            "hflip",
            "[1:v]format=rgba,colorchannelmixer=aa=0.5[l];[0:v]hflip[m];\
             [m][l]overlay=main_w-overlay_w-8:main_h-overlay_h-4:format=auto:enable='gte(t,0.5)*lt(t,2.48)'",
        ),
        (
            "center",
            100,
            seconds("1.5"),
            None,
            "yadif=1",
            "[0:v]yadif=1[m];[m][1:v]overlay=76:44:format=auto:enable='gte(t,1.5)'",
        ),
        ("top-right:2:2", 100, None, None, "hqdn3d", "[0:v]hqdn3d[m];[m][1:v]overlay=150:2:format=auto"),
    ] {
        let image = format!("file://{}", logo.display());
        let overlay = Overlay { image, at: at.parse().unwrap(), opacity_percent, from, to };
        let plain = filtered(chain);
        let spec =
            EncodeSpec { video: plain.video.map(|video| VideoSpec { overlay: Some(overlay), ..video }), ..plain };
        let made = check(&film, &spec, &format!("-i {} -filter_complex {laid} -g 25", logo.display()));
        assert!(chunks(&made) > 2 || chain == "hqdn3d", "{laid}: {:?}", unsplit_reason(&made));
    }
    let plain = spec();
    let overlay = Overlay {
        image: format!("file://{}", film.display()),
        at: "0:0".parse().unwrap(),
        opacity_percent: 100,
        from: None,
        to: None,
    };
    let video = plain.video.map(|video| VideoSpec { overlay: Some(overlay), ..video });
    let failure = encode(&film, &EncodeSpec { video, ..plain }).err().expect("a film is no picture");
    assert_eq!(failure.code, "overlay_undecodable", "{failure}");
}
