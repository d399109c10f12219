"""Spool's film against ffmpeg's: what differs, and whether a warning says so."""

# SSIM that the whole film, and any one frame of it, may lose against ffmpeg's: chunks end rate control early.
SSIM_MEAN = 0.002
SSIM_FRAME = 0.08
# How much larger the film may be, by the target of its chunks. Small films are given the cost of a few keyframes.
SIZE_PERCENT = {"2s": 12.0, "5s": 6.0, "10s": 4.0}
SIZE_SLACK_BYTES = 20_000

# What a warning explains.
EXPLAINED = {
    "captions_dropped": {"captions"},
    "stream_dropped": {"streams"},
    "alpha_dropped": set(),
    "dolby_vision_dropped": {"side data"},
    "damaged_source": {"frames", "times", "audio", "audio times", "sound", "SSIM", "duration", "size"},
    "empty_track": {"streams", "audio"},
    "no_video_stream": {"streams"},
}
# Formats that are no films: playlists that make ffmpeg open other files, and single pictures.
NO_FILMS = {"hls", "concat", "png_pipe"}


def differences(ours, theirs, chunk):
    """Names of what differs, with a word on how."""
    found = {}

    def compare(name, mine, other):
        if mine != other:
            found[name] = f"{mine} for {other}"

    kinds = [[s["kind"] + ":" + str(s["codec"]) for s in film["streams"]] for film in (ours, theirs)]
    compare("streams", *kinds)
    if "times" in theirs and "times" in ours:
        compare("frames", len(ours["times"]), len(theirs["times"]))
        if ours["times"] != theirs["times"] and "frames" not in found:
            at = next(i for i, pair in enumerate(zip(ours["times"], theirs["times"])) if pair[0] != pair[1])
            found["times"] = f"frame {at} at {ours['times'][at]} for {theirs['times'][at]}"
        for name in ("interlaced", "top_first", "captions"):
            compare(name, ours[name], theirs[name])
        # More is kept than ffmpeg keeps; less must not be.
        if set(theirs["hdr"]) - set(ours["hdr"]):
            found["HDR"] = f"{ours['hdr']} for {theirs['hdr']}"
        found.update(pictures(ours["ssim"], theirs["ssim"]))
    if abs(ours["duration"] - theirs["duration"]) > 0.0011:
        found["duration"] = f"{ours['duration']:.3f} for {theirs['duration']:.3f}"
    compare("start", ours["start"], theirs["start"])
    compare("chapters", ours["chapters"], theirs["chapters"])
    compare("tags", ours["tags"], theirs["tags"])
    compare("audio", [t["samples"] for t in ours["sound"]], [t["samples"] for t in theirs["sound"]])
    if [t["times"] for t in ours["sound"]] != [t["times"] for t in theirs["sound"]]:
        found["audio times"] = first_difference(ours["sound"], theirs["sound"], "times")
    if "audio" not in found:
        compare("sound", [t["hash"][:6] for t in ours["sound"]], [t["hash"][:6] for t in theirs["sound"]])
    compare("subtitles", ours["subtitles"], theirs["subtitles"])
    if kinds[0] == kinds[1]:
        for number, (mine, other) in enumerate(zip(ours["streams"], theirs["streams"])):
            for field in mine.keys() | other.keys():
                if field == "side_data":
                    lost = set(other[field]) - set(mine[field])
                    if lost:
                        found["side data"] = f"stream {number} lacks {', '.join(sorted(lost))}"
                elif mine.get(field) != other.get(field) and not near(field, mine, other):
                    found[f"{field}"] = f"stream {number}: {mine.get(field)} for {other.get(field)}"
    bar = SIZE_PERCENT.get(chunk, 4.0) / 100 * theirs["bytes"] + SIZE_SLACK_BYTES
    if ours["bytes"] - theirs["bytes"] > bar:
        found["size"] = f"{ours['bytes']} for {theirs['bytes']} bytes"
    return found


def near(field, mine, other):
    """A rounding of the container's clock."""
    if field not in ("start_time", "duration") or None in (mine[field], other[field]):
        return False
    return abs(float(mine[field]) - float(other[field])) < 0.0011


def first_difference(mine, other, field):
    for track, (a, b) in enumerate(zip(mine, other)):
        for at, pair in enumerate(zip(a[field], b[field])):
            if pair[0] != pair[1]:
                return f"track {track}, packet {at} at {pair[0]} for {pair[1]}"
        if len(a[field]) != len(b[field]):
            return f"track {track}: {len(a[field])} packets for {len(b[field])}"
    return "other tracks"


def pictures(mine, other):
    found = {}
    if not other:
        return found
    if not mine:
        return {"SSIM": "cannot be measured"}
    mean = sum(mine) / len(mine) - sum(other) / len(other)
    worst = min(((a - b, at) for at, (a, b) in enumerate(zip(mine, other))), default=(0, 0))
    if mean < -SSIM_MEAN:
        found["SSIM"] = f"{mean:+.4f} in the mean"
    if worst[0] < -SSIM_FRAME:
        found["SSIM"] = f"{worst[0]:+.4f} at frame {worst[1]}"
    return found


def any_content(film):
    """A film in which there is nothing is none, whatever the exit status of who wrote it."""
    return bool(film) and bool(film.get("times") or any(track["samples"] for track in film["sound"]))


def judge(spool, ffmpeg, source_format, chunk):
    """One word for the row, and the reasons. `WRONG` is what must not be."""
    delivered = any_content(ffmpeg.get("film"))
    if spool["state"] == "refused":
        text = f"{spool['class']} {spool['code']}"
        if spool["class"] == "capacity":
            return "refused", f"{text}: {spool['message']}"
        if spool["class"] not in ("input", "spec"):
            return "WRONG", f"{text}: {spool['message']}"
        if not delivered:
            return "refused as ffmpeg", text
        if source_format in NO_FILMS:
            return "refused", f"{text}; ffmpeg takes it for {source_format}"
        return "WRONG", f"ffmpeg delivers, spool refuses: {text}: {spool['message']}"
    if spool["state"] != "done":
        return "WRONG", spool.get("message", "no answer")
    warned = sorted({warning["code"] for warning in spool["warnings"]})
    if not delivered:
        words = "delivers where ffmpeg does not: " + ffmpeg.get("message", "")[-120:]
        return ("explained", ", ".join(warned) + "; " + words) if warned else ("WRONG", words)
    found = differences(spool["film"], ffmpeg["film"], chunk)
    explained = set().union(*(EXPLAINED.get(code, set()) for code in warned)) if warned else set()
    left = {name: how for name, how in found.items() if name not in explained}
    if left:
        return "WRONG", "; ".join(f"{name}: {how}" for name, how in left.items())
    if found:
        return "explained", f"{', '.join(sorted(found))} ({', '.join(warned)})"
    return "same", f"({', '.join(warned)})" if warned else ""
