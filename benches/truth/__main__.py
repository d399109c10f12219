#!/usr/bin/env python3
"""Every film of a corpus through Spool and through one ffmpeg process with the same options; a line for each.

Compared are frames and their times, durations, audio samples and their times, colour, HDR, captions, interlacing, aspect ratio, rotation,
chapters, tags, dispositions, subtitles, attachments, SSIM against the source frame by frame, and size. Exit code 1 if a line is WRONG: it
differs and no warning of the job says so.

    make truth                                             # all of ../shared/corpus, x264, x265, SVT-AV1, chunks of 2 s and 10 s
    python3 benches/truth --only 'odd/ts__*' --codec x264  # a part
    python3 benches/truth --long                           # ten minutes of film in 31 and in 600 chunks

What was compared is kept (--results), so an interrupted run goes on, and a run after a change of Spool encodes ffmpeg's films no second time.
"""

import argparse
import fnmatch
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import films
import verdict

HERE = pathlib.Path(__file__).resolve().parent
# Container, and options that both programs take. Fast presets: the question is which frames come out, not how small. Subtitles are
# named: left to themselves, Spool copies what fits and ffmpeg leaves out or converts.
CODECS = {
    "x264": ("mp4", "-c:v libx264 -crf 23 -preset ultrafast -c:a aac -sn"),
    "x265": ("mp4", "-c:v libx265 -crf 28 -preset ultrafast -c:a aac -sn"),
    "svt-av1": ("mkv", "-c:v libsvtav1 -crf 40 -preset 12 -c:a libopus -c:s copy"),
    "vp9": ("webm", "-c:v libvpx-vp9 -crf 40 -b:v 0 -deadline realtime -cpu-used 8 -c:a libopus"),
    # Two keyframes a second, so that a film can be cut wherever one likes.
    "long": ("mp4", "-c:v libx264 -crf 23 -preset ultrafast -g 12 -c:a aac -sn"),
    # Everything that an mkv holds: all sound, subtitles and attachments.
    "all": ("mkv", "-map 0:v? -map 0:a? -map 0:s? -map 0:t? -c:v libx264 -crf 23 -preset ultrafast -c:a aac -c:s copy"),
}
USUAL = ["x264", "x265", "svt-av1"]


def arguments():
    parser = argparse.ArgumentParser(prog="truth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="*", type=pathlib.Path, help="these instead of a corpus")
    parser.add_argument("--corpus", type=pathlib.Path, default=HERE.parents[2] / "shared/corpus")
    parser.add_argument("--only", action="append", default=[], metavar="GLOB", help="films of the corpus: 'odd/ts__*'")
    parser.add_argument("--codec", action="append", choices=CODECS, help=f"may be repeated [default: {', '.join(USUAL)}]")
    parser.add_argument("--chunk", action="append", help="target of a chunk; may be repeated [default: 2s, 10s]")
    parser.add_argument("--limit", type=int, default=24, metavar="SECONDS", help="of a film, at most [default: 24]; 0: all")
    parser.add_argument("--spool", type=pathlib.Path, help="the binary [default: the release build, else the one in PATH]")
    parser.add_argument("--results", type=pathlib.Path, help="what was compared [default: in the user's cache]")
    parser.add_argument("--again", action="store_true", help="compare what was compared with this very binary, too")
    parser.add_argument("--long", action="store_true", help="ten minutes of film, in 31 and in 600 chunks")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each row")
    parser.add_argument("--wrong", action="store_true", help="print only the rows that are WRONG, and the summary")
    return parser.parse_args()


def binary(asked):
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", pathlib.Path.home() / ".cache/spool-target"))
    for place in [asked, target / "release/spool", shutil.which("spool")]:
        if place and pathlib.Path(place).exists():
            return pathlib.Path(place).resolve()
    sys.exit("no spool to try: build it with `make build`, or name it with --spool")


class Kept:
    """Results by key, a line each, in one file that only grows."""

    def __init__(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.known = path, {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    key, value = json.loads(line)
                    self.known[key] = value
                except ValueError:
                    pass  # A line cut short by an interruption.

    def add(self, key, value):
        self.known[key] = value
        with self.path.open("a") as file:
            file.write(json.dumps([key, value]) + "\n")


def stamp(path):
    about = path.stat()
    return f"{path.name}:{about.st_size}:{about.st_mtime_ns}"


def limit_of(source, seconds):
    """`-t` where the film is longer: a length that is told may be a lie, so it is asked for only to save time."""
    if not seconds:
        return []
    try:
        length = float(films.ffprobe(source, "-show_entries", "format=duration")["format"]["duration"])
    except (films.Broken, KeyError, ValueError):
        length = seconds + 1.0
    return ["-t", str(seconds)] if length > seconds else []


def by_ffmpeg(source, options, container, limit, folder):
    film = folder / f"ffmpeg.{container}"
    film.unlink(missing_ok=True)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", f"file:{source}", *options, *limit, f"file:{film}"]
    try:
        done = films.call(command)
        if done.returncode == 0:
            return {"film": films.measure(film, source, limit)}
        return {"message": done.stderr.decode(errors="replace").strip()[-300:] or f"exit status {done.returncode}"}
    except films.Broken as broken:
        return {"message": str(broken)}


def by_spool(spool, source, options, container, limit, chunk, folder):
    film = folder / f"spool.{container}"
    film.unlink(missing_ok=True)
    command = [spool, "encode", "-i", source, "-o", film, "-y", *options, *limit, "--chunk", chunk]
    try:
        done = films.call([*command, "--json", "--progress", "none", "--data", folder / "data"])
        if not done.stdout:
            words = done.stderr.decode(errors="replace").strip()[-300:]
            refused = done.returncode == 2
            return {"state": "refused", "class": "spec", "code": "usage", "message": words} if refused else {"state": "failed", "message": words}
        job = json.loads(done.stdout)
        if job["state"] != "done":
            return {"state": "refused", **{key: job["failure"][key] for key in ("class", "code", "message")}}
        found = films.measure(film, source, limit)
        return {"state": "done", "film": found, "warnings": job.get("warnings", []), "chunks": len(job["output"]["chunks"])}
    except films.Broken as broken:
        return {"state": "failed", "message": str(broken)}
    finally:
        shutil.rmtree(folder / "data", ignore_errors=True)


def row(name, codec, chunk, spool, ffmpeg, word, why):
    ours, theirs = spool.get("film") or {}, ffmpeg.get("film") or {}
    mean = lambda film: sum(film["ssim"]) / len(film["ssim"]) if film.get("ssim") else None
    return {
        "film": name,
        "codec": codec,
        "chunk": chunk,
        "chunks": spool.get("chunks"),
        "frames": [len(film["times"]) if "times" in film else None for film in (ours, theirs)],
        "duration": [film.get("duration") for film in (ours, theirs)],
        "samples": [[track["samples"] for track in film.get("sound", [])] for film in (ours, theirs)],
        "ssim": [mean(ours), mean(theirs)],
        "bytes": [film.get("bytes") for film in (ours, theirs)],
        "warnings": spool.get("warnings", []),
        "verdict": word,
        "why": why,
    }


def line(found):
    def pair(values, form):
        shown = ["-" if v is None else form(v) for v in values]
        return shown[0] if shown[0] == shown[1] else "/".join(shown)

    size = ""
    if all(found["bytes"]):
        size = f"{100 * (found['bytes'][0] / found['bytes'][1] - 1):+.1f} %"
    samples = pair([",".join(map(str, s)) if s else None for s in found["samples"]], str)
    return (
        f"{found['film'][:44]:44} {found['codec']:8} {found['chunk']:>4} {found['chunks'] or '-':>4}  {pair(found['frames'], str):>9} "
        f"{pair(found['duration'], lambda d: f'{d:.3f}'):>8}  {samples:>14}  {pair(found['ssim'], lambda s: f'{s:.4f}'):>13} {size:>8}  "
        f"{found['verdict']} {found['why']}"
    )


HEAD = f"{'film':44} {'codec':8} {'cut':>4} {'n':>4}  {'frames':>9} {'seconds':>8}  {'samples':>14}  {'SSIM':>13} {'size':>8}  verdict"


def format_of(source):
    try:
        return films.ffprobe(source, "-show_entries", "format=format_name")["format"]["format_name"]
    except (films.Broken, KeyError):
        return None


def sources(args, folder):
    """Names and paths of the films to be compared, with the chunk targets of each."""
    chunks = args.chunk or ["2s", "10s"]
    if args.long:
        return [long_film(args, folder)]
    if args.films:
        return [(film.name, film.resolve(), chunks) for film in args.films]
    if not args.corpus.is_dir():
        sys.exit(f"{args.corpus} is not there: name films, or a corpus with --corpus")
    found = []
    for part in ("odd", "bad"):
        found += sorted((f"{part}/{film.name}", film.resolve()) for film in (args.corpus / part).iterdir())
    wanted = [(name, film) for name, film in found if not args.only or any(fnmatch.fnmatch(name, glob) for glob in args.only)]
    if not wanted:
        sys.exit("--only names no film of the corpus")
    return [(name, film, chunks) for name, film in wanted]


def long_film(args, folder):
    """Ten minutes, made by repeating a real film by stream copy. 31 chunks and 600 are asked for by their length."""
    film, small = folder / "long.mp4", folder / "small.mp4"
    original = args.films[0] if args.films else args.corpus / "bench/bbb_720p24_cut120s.mp4"
    # Small pictures: joins are what is tried here.
    films.call(
        ["ffmpeg", "-v", "error", "-nostdin", "-y", "-i", original, "-vf", "scale=320:180", "-c:v", "libx264", "-preset", "veryfast"]
        + ["-g", "24", "-c:a", "copy", small]
    )
    films.call(["ffmpeg", "-v", "error", "-nostdin", "-y", "-stream_loop", "-1", "-i", small, "-t", "600", "-c", "copy", film])
    return "ten minutes", film, args.chunk or ["19350ms", "1s"]


def compare(args, spool, kept, folder):
    count = {}
    for name, source, chunks in sources(args, folder):
        limit = [] if args.long else limit_of(source, args.limit)
        for codec in args.codec or (["long"] if args.long else USUAL):
            container, text = CODECS[codec]
            options = text.split()
            key = hashlib.md5(f"{stamp(source)}|{container} {text} {limit}".encode()).hexdigest()
            for chunk in chunks:
                ours = f"{key}|{chunk}|{stamp(spool)}"
                spool_film = kept.known.get(ours)
                if spool_film is None or args.again:
                    spool_film = by_spool(spool, source, options, container, limit, chunk, folder)
                    kept.add(ours, spool_film)
                if key not in kept.known:
                    kept.add(key, by_ffmpeg(source, options, container, limit, folder))
                word, why = verdict.judge(spool_film, kept.known[key], format_of(source), chunk)
                found = row(name, codec, chunk, spool_film, kept.known[key], word, why)
                count[word] = count.get(word, 0) + 1
                if word == "WRONG" or not args.wrong:
                    print(json.dumps(found) if args.json else line(found), flush=True)
    return count


def main():
    args = arguments()
    spool = binary(args.spool)
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    kept = Kept(args.results or cache / "spool-truth/results.jsonl")
    if not args.json:
        print(HEAD)
    with tempfile.TemporaryDirectory(prefix="spool-truth-") as folder:
        count = compare(args, spool, kept, pathlib.Path(folder))
    summary = ", ".join(f"{number} {word}" for word, number in sorted(count.items()))
    print(f"{sum(count.values())} rows: {summary}", file=sys.stderr if args.json else sys.stdout)
    sys.exit(1 if count.get("WRONG") else 0)


if __name__ == "__main__":
    main()
