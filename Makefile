# make demo   a film encoded end to end, from a fresh clone      make test    every test
# make check  formatting, lints, licences                        make bench   Spool against ffmpeg, and dispatch
# make truth  every film of the corpus against ffmpeg

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/spool-target
SPOOL := $(CARGO_TARGET_DIR)/release/spool
PACKAGES := ffmpeg libavcodec-dev libavformat-dev libavfilter-dev libavutil-dev libswscale-dev libswresample-dev \
	pkg-config clang libclang-dev lld gcc make
DEMO_FILM := .demo/film.mp4
IN ?= $(DEMO_FILM)
OUT ?= .demo/out.mp4

.PHONY: help deps build demo test check bench bench-core truth

help:
	@sed -n '1,3p' Makefile

# Debian's packages that are missing. Nothing is touched when all are there.
deps:
	@missing=; for p in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
		sudo=; if [ "$$(id -u)" != 0 ]; then \
			command -v sudo >/dev/null || { echo "please install as root:$$missing"; exit 1; }; sudo=sudo; fi; \
		$$sudo apt-get update -q && DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -q -y --no-install-recommends $$missing; fi
	@command -v cargo >/dev/null || { echo "please install Rust: https://rustup.rs"; exit 1; }

build: deps
	cargo build --release --locked

# One minute of seven scenes with sound, so that there is something to cut.
$(DEMO_FILM): | deps
	@mkdir -p .demo
	ffmpeg -v error -y \
		-f lavfi -i "testsrc2=s=1280x720:r=24:d=9" -f lavfi -i "mandelbrot=s=1280x720:r=24,trim=duration=9" \
		-f lavfi -i "smptehdbars=s=1280x720:r=24:d=8,hue=H=t" -f lavfi -i "life=s=320x180:r=24:mold=10:ratio=0.1:death_color=#C83232:life_color=#00ff00,scale=1280:720,trim=duration=8" \
		-f lavfi -i "cellauto=s=320x180:r=24,scale=1280:720,trim=duration=9" -f lavfi -i "gradients=s=1280x720:r=24:d=8" \
		-f lavfi -i "testsrc=s=1280x720:r=24:d=9" -f lavfi -i "sine=f=330:b=4:r=48000:d=60" \
		-filter_complex "[0]format=yuv420p,setsar=1[a];[1]format=yuv420p,setsar=1[b];[2]format=yuv420p,setsar=1[c];[3]format=yuv420p,setsar=1[d];[4]format=yuv420p,setsar=1[e];[5]format=yuv420p,setsar=1[f];[6]format=yuv420p,setsar=1[g];[a][b][c][d][e][f][g]concat=n=7[v]" \
		-map "[v]" -map 7:a -c:v libx264 -preset veryfast -crf 16 -c:a aac -b:a 160k -shortest $@.part.mp4
	@mv $@.part.mp4 $@

demo: build $(if $(filter $(DEMO_FILM),$(IN)),$(DEMO_FILM))
	@mkdir -p .demo
	$(SPOOL) encode "$(IN)" -o "$(OUT)" -c:v libx264 -crf 21 -preset medium -c:a aac -b:a 128k -y
	@ffprobe -v error -show_entries stream=codec_name,width,height,nb_frames,duration -of compact=p=0 "$(OUT)"

test: deps
	@if command -v cargo-nextest >/dev/null; then cargo nextest run --workspace --locked; else cargo test --workspace --locked; fi

check: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo "SKIPPED: cargo deny (install it with: cargo install cargo-deny --locked)"; fi

# The scheduling engine alone: placements a second, bytes a queued task. Then the rules engine alone: events, firings, bytes a job.
bench-core: deps
	cargo bench -p spool-core --bench engine
	cargo bench -p spool-rules --bench rules

bench: build $(if $(filter $(DEMO_FILM),$(IN)),$(DEMO_FILM))
	$(SPOOL) bench encode "$(IN)"
	$(SPOOL) bench dispatch --tasks 200000

# Hours for all of it; what was compared is kept. A part: make truth ARGS="--only 'odd/ts__*' --codec x264"
truth: build
	python3 benches/truth $(ARGS)
