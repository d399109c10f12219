//! What each audio encoder takes.

use super::super::{AudioCodec, AudioFilter, AudioSpec, CHANNEL_LAYOUTS, Container, Gain, Loudness};
use super::{conflict, refused};
use crate::failure::Failure;

/// Sampling frequencies AAC has an index for (ISO/IEC 14496-3, table 1.18).
const AAC_RATES: &[u32] =
    &[96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
const OPUS_RATES: &[u32] = &[8_000, 12_000, 16_000, 24_000, 48_000];
/// ETSI TS 102 366, table 4.1; FFmpeg's E-AC-3 encoder takes no halved ones.
const AC3_RATES: &[u32] = &[48_000, 44_100, 32_000];
/// Of MPEG-1, MPEG-2 and MPEG-2.5 layer III.
const MP3_RATES: &[u32] = &[44_100, 48_000, 32_000, 22_050, 24_000, 16_000, 11_025, 12_000, 8_000];

/// More than this only makes noise, or nothing.
const GAIN_DB_MAX: f64 = 60.0;

impl AudioCodec {
    /// Whether FFmpeg's muxer takes it; if not, what to do instead.
    pub(super) fn fits(self, container: Container) -> Result<(), &'static str> {
        match (container, self) {
            (_, AudioCodec::Copy) | (Container::Webm, AudioCodec::Libopus) => Ok(()),
            (Container::Webm, _) => Err("take -c:a libopus, or name the output .mkv"),
            (Container::Mov, AudioCodec::Libopus | AudioCodec::Flac) => Err("take -c:a aac, or name the output .mkv"),
            (Container::Mp4, AudioCodec::Flac) => {
                Err("FLAC in MP4 is experimental in FFmpeg; take -c:a aac, or name the output .mkv")
            }
            (Container::Mp4, AudioCodec::PcmS16le | AudioCodec::PcmS24le) => {
                Err("take -c:a aac, or name the output .mov or .mkv")
            }
            _ => Ok(()),
        }
    }

    /// `None`: any.
    fn rates(self) -> Option<&'static [u32]> {
        match self {
            AudioCodec::Aac => Some(AAC_RATES),
            AudioCodec::Libopus => Some(OPUS_RATES),
            AudioCodec::Ac3 | AudioCodec::Eac3 => Some(AC3_RATES),
            AudioCodec::Libmp3lame => Some(MP3_RATES),
            AudioCodec::Flac | AudioCodec::PcmS16le | AudioCodec::PcmS24le | AudioCodec::Copy => None,
        }
    }

    fn channels_max(self) -> u16 {
        match self {
            AudioCodec::Libmp3lame => 2,
            AudioCodec::Ac3 | AudioCodec::Eac3 => 6,
            _ => 8,
        }
    }

    fn has_bitrate(self) -> bool {
        !matches!(self, AudioCodec::Flac | AudioCodec::PcmS16le | AudioCodec::PcmS24le)
    }
}

impl AudioSpec {
    pub(super) fn check(&self) -> Result<(), Failure> {
        let codec = self.codec;
        if codec == AudioCodec::Copy {
            return self.check_copy();
        }
        if let Some(bps) = self.bitrate_bps {
            if !codec.has_bitrate() {
                return Err(conflict(format!("-b:a with -c:a {codec}: it is lossless and has no bit rate; drop -b:a")));
            }
            if !(6_000..=2_000_000).contains(&bps) {
                return Err(refused(format!("-b:a {bps}: audio takes 6k to 2M bits a second")));
            }
            if codec == AudioCodec::Ac3 && !(32_000..=640_000).contains(&bps) {
                return Err(refused(format!("-b:a {bps}: ac3 takes 32k to 640k bits a second")));
            }
            if codec == AudioCodec::Libmp3lame && !(8_000..=320_000).contains(&bps) {
                return Err(refused(format!("-b:a {bps}: libmp3lame takes 8k to 320k bits a second")));
            }
        }
        if let Some(hz) = self.sample_rate_hz {
            if let Some(rates) = codec.rates().filter(|rates| !rates.contains(&hz)) {
                return Err(refused(format!("-ar {hz}: {codec} takes {rates:?}")));
            }
            if !(1_000..=384_000).contains(&hz) {
                return Err(refused(format!("-ar {hz}: sample rates go from 1000 to 384000")));
            }
        }
        self.check_channels()?;
        if self.filters.len() > super::LIST_MAX {
            let (given, most) = (self.filters.len(), super::LIST_MAX);
            return Err(refused(format!("-af has {given} filters; at most {most} are taken")));
        }
        self.filters.iter().try_for_each(|filter| check_filter(*filter))?;
        self.loudness.map_or(Ok(()), check_loudness)
    }

    fn check_copy(&self) -> Result<(), Failure> {
        let set = [
            ("-b:a", self.bitrate_bps.is_some()),
            ("-ar", self.sample_rate_hz.is_some()),
            ("-ac", self.channels.is_some()),
            ("-channel_layout", self.channel_layout.is_some()),
            ("-af", !self.filters.is_empty()),
            ("--loudness", self.loudness.is_some()),
        ];
        match set.into_iter().find(|(_, set)| *set) {
            Some((option, _)) => Err(conflict(format!(
                "{option} with -c:a copy: a copied track stays as it is; drop {option} or choose an encoder"
            ))),
            None => Ok(()),
        }
    }

    fn check_channels(&self) -> Result<(), Failure> {
        let most = self.codec.channels_max();
        let of_layout = match &self.channel_layout {
            Some(name) => match CHANNEL_LAYOUTS.iter().find(|(known, _)| known == name) {
                Some((_, channels)) => Some(*channels),
                None => return Err(refused(format!("-channel_layout {name}: there is no such layout"))),
            },
            None => None,
        };
        if let (Some(channels), Some(layout), Some(has)) = (self.channels, &self.channel_layout, of_layout)
            && channels != has
        {
            return Err(conflict(format!("-ac {channels} with -channel_layout {layout}, which has {has}; drop one")));
        }
        let codec = self.codec;
        match (self.channels, of_layout, &self.channel_layout) {
            (Some(channels), _, _) if !(1..=most).contains(&channels) => {
                Err(refused(format!("-ac {channels}: {codec} takes 1 to {most} channels")))
            }
            (_, Some(channels), Some(layout)) if channels > most => {
                Err(refused(format!("-channel_layout {layout}: {codec} takes 1 to {most} channels")))
            }
            _ => Ok(()),
        }
    }
}

fn check_filter(filter: AudioFilter) -> Result<(), Failure> {
    let AudioFilter::Volume(gain) = filter;
    let db = match gain {
        Gain::Factor(0.0) => return Ok(()),
        Gain::Factor(factor) => 20.0 * factor.log10(),
        Gain::Db(db) => db,
    };
    // Not a number is refused too.
    if db.abs() <= GAIN_DB_MAX {
        return Ok(());
    }
    Err(refused(format!("-af {filter}: gains go from -{GAIN_DB_MAX}dB to {GAIN_DB_MAX}dB")))
}

fn check_loudness(loudness: Loudness) -> Result<(), Failure> {
    let Loudness { target_lufs, true_peak_dbtp } = loudness;
    if !(-70.0..=-5.0).contains(&target_lufs) {
        return Err(refused(format!("--loudness {target_lufs}: targets go from -70 to -5 LUFS; EBU R128 is -23")));
    }
    if !(-9.0..=0.0).contains(&true_peak_dbtp) {
        return Err(refused(format!("--true-peak {true_peak_dbtp}: ceilings go from -9 to 0 dBTP; EBU R128 is -1")));
    }
    Ok(())
}
