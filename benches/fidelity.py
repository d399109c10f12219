#!/usr/bin/env python3
"""Spool's output against one ffmpeg process on the whole film, with the same options.

For each film, codec and chunk target: decoded frame times, duration and audio samples must be equal (audio within one codec frame),
SSIM against the source within 0.002, size within 2 % at 10 s, 3 % at 5 s, 6 % at 2 s. A line each; exit code 1 if a bar is missed.

    benches/fidelity.py --spool ~/.cache/spool-target/release/spool film.mp4 other.mp4
    benches/fidelity.py --codec x264 --chunk 5s --slow film.mp4          # each encoder's usual preset
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

AUDIO_FRAME_BYTES = 2 * 2 * 1024
SSIM_BAR = 0.002
SIZE_BARS_PERCENT = {"2s": 6.0, "5s": 3.0, "10s": 2.0}

# Container, options at a fast preset, options at the usual one.
CODECS = {
    "x264": ("mp4", "-c:v libx264 -crf 23 -preset veryfast -c:a aac", "-c:v libx264 -crf 23 -preset medium -c:a aac"),
    "x265": ("mp4", "-c:v libx265 -crf 28 -preset ultrafast -c:a aac", "-c:v libx265 -crf 28 -preset medium -c:a aac"),
    "svt-av1": (
        "mkv",
        "-c:v libsvtav1 -crf 35 -preset 10 -c:a libopus",
        "-c:v libsvtav1 -crf 35 -preset 8 -c:a libopus",
    ),
    "vp9": (
        "webm",
        "-c:v libvpx-vp9 -crf 35 -b:v 0 -deadline realtime -cpu-used 7 -c:a libopus",
        "-c:v libvpx-vp9 -crf 35 -b:v 0 -deadline good -cpu-used 4 -c:a libopus",
    ),
}


def run(*command):
    done = subprocess.run(command, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr.decode(errors='replace')[-2000:]}")
    return done


def lines(*command):
    text = run("ffprobe", "-v", "error", "-of", "csv=p=0", *command).stdout.decode()
    return [line.strip(",") for line in text.splitlines() if line.strip(",")]


def measure(film, source):
    """What a viewer would notice of a film: frame times, duration, audio bytes as 16 bit, SSIM, size."""
    pair = "[0:v]settb=1/1000,setpts=N[a];[1:v]settb=1/1000,setpts=N[b];[a][b]ssim"
    ssim = run("ffmpeg", "-i", film, "-i", source, "-lavfi", pair, "-f", "null", "-").stderr.decode()
    return {
        "times": lines("-select_streams", "v:0", "-show_entries", "frame=pts_time", film),
        "duration": float(lines("-show_entries", "format=duration", film)[0]),
        "audio": len(run("ffmpeg", "-v", "error", "-i", film, "-map", "0:a:0?", "-f", "s16le", "-").stdout),
        "ssim": float(re.search(r"All:([0-9.]+)", ssim).group(1)),
        "bytes": film.stat().st_size,
    }


def timed(*command):
    start = time.monotonic()
    done = run(*command)
    return done, time.monotonic() - start


def compare(spool, source, codec, chunks, slow, folder):
    container, fast, usual = CODECS[codec]
    options = (usual if slow else fast).split()
    reference = folder / f"ffmpeg.{container}"
    _, ffmpeg_seconds = timed("ffmpeg", "-v", "error", "-y", "-i", source, *options, reference)
    theirs = measure(reference, source)
    missed = 0
    for chunk in chunks:
        film = folder / f"spool.{container}"
        encode = [spool, "encode", source, "-o", film, "-y", *options, "--chunk", chunk, "--json", "--data", folder]
        done, spool_seconds = timed(*encode)
        output, ours = json.loads(done.stdout)["output"], measure(film, source)
        size = 100 * (ours["bytes"] / theirs["bytes"] - 1)
        ssim = ours["ssim"] - theirs["ssim"]
        bars = {
            "times": ours["times"] == theirs["times"],
            "duration": abs(ours["duration"] - theirs["duration"]) < 0.0011,
            "audio": abs(ours["audio"] - theirs["audio"]) <= AUDIO_FRAME_BYTES,
            "SSIM": ssim >= -SSIM_BAR,
            "size": size <= SIZE_BARS_PERCENT.get(chunk, 2.0),
        }
        failed = [name for name, met in bars.items() if not met]
        missed += len(failed)
        print(
            f"{source.name:28} {codec:8} {chunk:>4}  {len(ours['times']):6} frames  {len(output['chunks']):3} chunks  "
            f"SSIM {ssim:+.5f}  size {size:+6.2f} %  time {spool_seconds:6.1f} / {ffmpeg_seconds:6.1f} s  "
            f"{'MISSED ' + ', '.join(failed) if failed else 'ok'}",
            flush=True,
        )
    return missed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("films", nargs="+", type=pathlib.Path)
    parser.add_argument("--spool", default="spool", help="the binary")
    parser.add_argument("--codec", action="append", choices=CODECS, help="only this one; may be repeated")
    parser.add_argument("--chunk", action="append", choices=SIZE_BARS_PERCENT, help="only this one; may be repeated")
    parser.add_argument("--slow", action="store_true", help="each encoder's usual preset instead of a fast one")
    args = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="spool-fidelity-") as folder:
        for film in args.films:
            for codec in args.codec or CODECS:
                missed += compare(
                    args.spool, film.resolve(), codec, args.chunk or SIZE_BARS_PERCENT, args.slow, pathlib.Path(folder)
                )
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
