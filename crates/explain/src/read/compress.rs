//! Compressed captures, recognized by their first bytes.

use std::io::{self, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// The source's bytes, decompressed if they are compressed.
pub(super) fn plain(mut source: Box<dyn Read + Send>) -> io::Result<Box<dyn Read + Send>> {
    let mut head = [0; 6];
    let mut read = 0;
    while read < head.len() {
        match source.read(&mut head[read..]) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let head = head[..read].to_vec();
    let whole = BufReader::with_capacity(1 << 17, io::Cursor::new(head.clone()).chain(source));
    Ok(match *head.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(Zstd { source: Some(whole), decoder: None }),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Box::new(Pushed::xz(whole)),
        [b'B', b'Z', b'h', ..] => Box::new(bzip2_rs::DecoderReader::new(whole)),
        [0x04, 0x22, 0x4d, 0x18, ..] => Box::new(lz4_flex::frame::FrameDecoder::new(whole)),
        _ => Box::new(whole),
    })
}

type Source = BufReader<io::Chain<io::Cursor<Vec<u8>>, Box<dyn Read + Send>>>;
type Decoder = ruzstd::decoding::StreamingDecoder<Source, ruzstd::decoding::FrameDecoder>;

/// zstd with all the frames that a file has.
struct Zstd {
    source: Option<Source>,
    decoder: Option<Box<Decoder>>,
}

// The decoder's tables hold no references that are bound to a thread.
impl Read for Zstd {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        use std::io::BufRead as _;
        loop {
            if let Some(decoder) = &mut self.decoder {
                let read = decoder.read(out)?;
                if read > 0 || out.is_empty() {
                    return Ok(read);
                }
            }
            if let Some(decoder) = self.decoder.take() {
                self.source = Some(decoder.into_inner());
            }
            let Some(mut source) = self.source.take() else { return Ok(0) };
            if source.fill_buf()?.is_empty() {
                return Ok(0);
            }
            let decoder = ruzstd::decoding::StreamingDecoder::new(source)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            self.decoder = Some(Box::new(decoder));
        }
    }
}

/// A decoder that writes, read through a channel: it runs in a thread of its own.
struct Pushed {
    chunks: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Pushed {
    fn xz(mut source: Source) -> Self {
        let (sender, chunks) = sync_channel(16);
        std::thread::spawn(move || {
            let mut out = Push(sender);
            if let Err(error) = lzma_rs::xz_decompress(&mut source, &mut out) {
                let error = io::Error::new(io::ErrorKind::InvalidData, format!("xz: {error:?}"));
                // Nobody reads any more: then the error does not matter either.
                let _gone = out.0.send(Err(error));
            }
        });
        Self { chunks, chunk: Vec::new(), at: 0 }
    }
}

struct Push(SyncSender<io::Result<Vec<u8>>>);

impl io::Write for Push {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(Ok(bytes.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Pushed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            match self.chunks.recv() {
                Ok(chunk) => (self.chunk, self.at) = (chunk?, 0),
                Err(_) => return Ok(0),
            }
        }
        let n = out.len().min(self.chunk.len() - self.at);
        out[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
