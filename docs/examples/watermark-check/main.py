#!/usr/bin/env python3
"""Tells whether a watermark lies in a corner of a film.

The corner is cut out of some pictures of the film and compared with the mark, by normalised cross-correlation, a few pixels around
where the mark should be. Nothing but Python's standard library, and ffmpeg for the decoding.
"""

import json
import math
import os
import subprocess
import sys

# The mark may lie so many pixels beside its place.
SLACK = 3
# Compared at no more than so many pixels a side: larger ones are scaled down first.
SIDE = 64


def say(**words):
    print(json.dumps(words), flush=True)


def fail(code, message):
    """A failure of class `input` is the film's, and is not tried again."""
    say(error={"class": "input", "code": code, "message": message})
    sys.exit(1)


def run(*command):
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        sys.stderr.write(done.stderr.decode(errors="replace"))
        return None
    return done.stdout


def probe(path, what):
    shown = run("ffprobe", "-v", "error", "-select_streams", "v:0", "-show_entries",
                "stream=width,height:format=duration", "-of", "json", path)
    known = json.loads(shown) if shown else {}
    if not known.get("streams"):
        fail("not_a_picture", f"{what} holds no picture that ffmpeg can read")
    stream = known["streams"][0]
    return stream["width"], stream["height"], float(known.get("format", {}).get("duration", 0) or 0)


def pixels(path, filters, size, *before):
    """Gray pictures of `size`, one after the other, as lists of numbers."""
    raw = run("ffmpeg", "-v", "error", *before, "-i", path, "-map", "0:v:0", "-vf", f"{filters},format=gray", "-f",
              "rawvideo", "-")
    if raw is None:
        fail("undecodable", "ffmpeg could not decode it; what it said is in the log")
    return [list(raw[at:at + size]) for at in range(0, len(raw) - size + 1, size)]


def likeness(region, width, mark, mark_width, mark_height):
    """The best correlation of the mark with any place in the region."""
    count = mark_width * mark_height
    mean = sum(mark) / count
    centred = [value - mean for value in mark]
    norm = math.sqrt(sum(value * value for value in centred))
    best = 0.0
    for y in range(len(region) // width - mark_height + 1):
        for x in range(width - mark_width + 1):
            there = []
            for row in range(mark_height):
                start = (y + row) * width + x
                there += region[start:start + mark_width]
            average = sum(there) / count
            spread = math.sqrt(sum((value - average) ** 2 for value in there))
            if norm and spread:
                product = sum(a * (b - average) for a, b in zip(centred, there))
                best = max(best, product / (norm * spread))
    return best


def main():
    call = json.load(sys.stdin)
    given = call["input"]
    width, height, seconds = probe(given["video"], "the film")
    mark_width, mark_height, _ = probe(given["mark"], "the mark")
    margin, corner = given["margin"], given["corner"]
    if mark_width + margin > width or mark_height + margin > height:
        fail("mark_too_large", f"a mark of {mark_width}x{mark_height} with a margin of {margin} does not fit into {width}x{height}")

    # Where the mark should be, and some room around it that stays within the picture.
    x = margin if corner.endswith("left") else width - margin - mark_width
    y = margin if corner.startswith("top") else height - margin - mark_height
    left, top = min(SLACK, x), min(SLACK, y)
    right, bottom = min(SLACK, width - x - mark_width), min(SLACK, height - y - mark_height)
    box = (mark_width + left + right, mark_height + top + bottom)
    scale = min(1.0, SIDE / max(box))
    small = [max(2, round(side * scale)) for side in box]
    mark_small = [max(1, min(round(side * scale), limit)) for side, limit in zip((mark_width, mark_height), small)]

    mark = pixels(given["mark"], f"scale={mark_small[0]}:{mark_small[1]}", mark_small[0] * mark_small[1])
    if not mark:
        fail("not_a_picture", "the mark holds no picture")
    wanted = given["frames"]
    cut = f"crop={box[0]}:{box[1]}:{x - left}:{y - top},scale={small[0]}:{small[1]}"
    regions = []
    for number in range(wanted):
        # From the middle of each of so many parts; without a length, from the beginning alone.
        at = seconds * (number + 0.5) / wanted
        regions += [(at, region) for region in pixels(given["video"], cut + ",select=eq(n\\,0)", small[0] * small[1], "-ss", f"{at:.3f}")[:1]]
        say(progress=(number + 1) / (wanted + 1))
        if not seconds:
            break
    if not regions:
        fail("no_pictures", "no picture of the film could be decoded")

    compare = lambda region: round(max(0.0, likeness(region, small[0], mark[0], *mark_small)), 4)
    frames = [{"seconds": round(at, 3), "score": compare(region)} for at, region in regions]
    mean = [sum(values) / len(regions) for values in zip(*(region for _, region in regions))]
    score = compare(mean)

    # For people: what it saw.
    with open(os.path.join(call["out"], "corner.pgm"), "wb") as file:
        file.write(b"P5 %d %d 255\n" % tuple(small) + bytes(round(value) for value in mean))
    say(message=f"{len(regions)} pictures, the mean is {score} like the mark")
    say(result={"found": score >= given["threshold"], "score": score, "frames": frames})


main()
