#!/usr/bin/env python3
"""Counts the bytes of a file, and how often each comes."""

import collections
import json
import os
import sys

call = json.load(sys.stdin)
path = call["input"]["file"]
top = call["input"]["top"]

size = os.path.getsize(path)
counts = collections.Counter()
done = 0
with open(path, "rb") as file:
    while block := file.read(1 << 20):
        counts.update(block)
        done += len(block)
        print(json.dumps({"progress": done / size}), flush=True)

# Files left in this folder come with the answer.
with open(os.path.join(call["out"], "counts.json"), "w") as out:
    json.dump({f"{byte:02x}": count for byte, count in sorted(counts.items())}, out)

most = [{"byte": f"{byte:02x}", "count": count} for byte, count in counts.most_common(top)]
print(json.dumps({"result": {"bytes": done, "most": most}}))
