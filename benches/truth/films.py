"""What can be told of an encoded film by looking at it: what a viewer, a player or an archivist would notice."""

import hashlib
import json
import re
import subprocess
import tempfile

# Programs that hang on a broken film are stopped. Seconds.
PATIENCE = 600

STREAM_FIELDS = {
    "video": (
        "width height pix_fmt sample_aspect_ratio color_range color_space color_transfer color_primaries chroma_location "
        "field_order r_frame_rate avg_frame_rate start_time duration".split()
    ),
    "audio": "sample_rate channels channel_layout start_time duration".split(),
    "subtitle": "start_time".split(),
    "attachment": [],
    "data": [],
}
# What differs between any two runs, or names the program that wrote the film.
TAGS_IGNORED = {"encoder", "creation_time", "handler_name", "vendor_id", "duration", "major_brand", "minor_version", "compatible_brands"}


class Broken(Exception):
    """The film cannot be looked at."""


def call(command, **more):
    try:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE, **more)
    except subprocess.TimeoutExpired as late:
        raise Broken(f"{command[0]} was still running after {PATIENCE} s") from late


def ffprobe(film, *entries):
    done = call(["ffprobe", "-v", "error", "-of", "json", *entries, f"file:{film}"])
    if done.returncode != 0:
        raise Broken(done.stderr.decode(errors="replace").strip()[-300:])
    return json.loads(done.stdout)


def tags(thing):
    return {key.lower(): value for key, value in thing.get("tags", {}).items() if key.lower() not in TAGS_IGNORED}


def stream(told):
    """One stream as it says it is."""
    kind = told.get("codec_type", "data")
    found = {"kind": kind, "codec": told.get("codec_name")}
    found.update({field: told.get(field) for field in STREAM_FIELDS.get(kind, [])})
    found["tags"] = {key: value for key, value in tags(told).items() if not key.startswith("_statistics") and key != "bps"}
    found["disposition"] = sorted(name for name, on in told.get("disposition", {}).items() if on)
    found["side_data"] = sorted(json.dumps(data, sort_keys=True) for data in told.get("side_data_list", []))
    return found


def pictures(film):
    """Times of all frames, how many are interlaced, how many carry captions, and HDR data of the first."""
    command = ["ffprobe", "-v", "error", "-of", "compact=p=0:nk=1", "-select_streams", "v:0", "-show_entries"]
    command += ["frame=pts_time,interlaced_frame,top_field_first:frame_side_data=side_data_type", f"file:{film}"]
    lines = call(command).stdout.decode(errors="replace").splitlines()
    frames = [line.split("|") for line in lines if "|" in line]
    hdr = ("Mastering display metadata", "Content light level metadata")
    return {
        "times": [frame[0] for frame in frames],
        "interlaced": sum(frame[1] == "1" for frame in frames),
        "top_first": sum(frame[2] == "1" for frame in frames),
        "captions": sum("ATSC A53 Part 4 Closed Captions" in frame for frame in frames),
        "hdr": sorted(name for name in hdr if frames and name in frames[0]),
    }


def sound(film, track, channels):
    """Samples of one audio track, their hash, and a hash of its packets' times."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", f"file:{film}", "-map", f"0:a:{track}", "-f", "s16le", "-"]
    samples = call(command).stdout
    command = ["ffprobe", "-v", "error", "-of", "csv=p=0", "-select_streams", f"a:{track}"]
    times = call([*command, "-show_entries", "packet=pts_time", f"file:{film}"]).stdout
    return {
        "samples": len(samples) // (2 * max(channels, 1)),
        "hash": hashlib.md5(samples).hexdigest(),
        "times": [line.strip(",") for line in times.decode().split()],
    }


def similarity(film, source, limit, pix_fmt, variable):
    """SSIM of every frame against the source's, taken as ffmpeg's encoder would get it. Pairs go by index."""
    rate = "vfr" if variable else "cfr"
    reader = ["ffmpeg", "-v", "quiet", "-nostdin", "-i", f"file:{source}", *limit, "-an", "-sn", "-dn", "-vsync", rate]
    reader += ["-pix_fmt", pix_fmt, "-c:v", "rawvideo", "-f", "nut", "-"]
    with tempfile.NamedTemporaryFile(suffix=".ssim") as stats:
        pair = f"[0:v]settb=1/1000,setpts=N[a];[1:v]settb=1/1000,setpts=N[b];[a][b]ssim=stats_file={stats.name}:shortest=1"
        judge = ["ffmpeg", "-v", "error", "-noautorotate", "-f", "nut", "-i", "-", "-i", f"file:{film}", "-lavfi", pair]
        with subprocess.Popen(reader, stdout=subprocess.PIPE) as raw:
            call([*judge, "-f", "null", "-"], stdin=raw.stdout)
            raw.stdout.close()
            raw.kill()
        return [float(found) for found in re.findall(r"All:([0-9.]+)", stats.read().decode())]


def measure(film, source, limit):
    """All of it, as plain values that JSON keeps."""
    told = ffprobe(film, "-show_format", "-show_streams", "-show_chapters")
    streams = [stream(each) for each in told["streams"]]
    found = {
        "bytes": film.stat().st_size,
        "duration": float(told["format"].get("duration", 0)),
        "start": told["format"].get("start_time"),
        "tags": tags(told["format"]),
        "chapters": [
            [c["start_time"], c["end_time"], c.get("tags", {}).get("title")] for c in told.get("chapters", [])
        ],
        "streams": streams,
        "sound": [],
        "subtitles": [],
    }
    for track, each in enumerate(s for s in streams if s["kind"] == "audio"):
        found["sound"].append(sound(film, track, each["channels"] or 1))
    for track, _ in enumerate(s for s in streams if s["kind"] == "subtitle"):
        packets = ffprobe(film, "-select_streams", f"s:{track}", "-show_entries", "packet=pts_time,size")
        found["subtitles"].append([[p.get("pts_time"), p.get("size")] for p in packets.get("packets", [])])
    video = next((s for s in streams if s["kind"] == "video" and "attached_pic" not in s["disposition"]), None)
    if video:
        found.update(pictures(film))
        variable = film.suffix not in (".mp4", ".mov")
        found["ssim"] = similarity(film, source, limit, video["pix_fmt"], variable)
    return found
