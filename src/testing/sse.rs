//! Reading an event stream by the rules of WHATWG HTML section 9.2.6.

/// One dispatched event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// The last event id in force; empty when none was given.
    pub id: String,
    /// Its name; `message` when none was given.
    pub event: String,
    /// Its data, lines joined by LF.
    pub data: String,
}

/// Takes bytes in any portions and gives events.
#[derive(Debug, Default)]
pub struct SseParser {
    started: bool,
    line: Vec<u8>,
    after_cr: bool,
    id: String,
    event: String,
    data: String,
    /// The last `retry:` in milliseconds.
    pub retry_ms: Option<u64>,
    /// How many comment lines were read.
    pub comments: usize,
}

impl SseParser {
    /// Reads some bytes; gives the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<SseEvent> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::take(&mut self.after_cr);
            match byte {
                b'\n' if after_cr => {}
                b'\r' | b'\n' => {
                    self.after_cr = byte == b'\r';
                    let line = std::mem::take(&mut self.line);
                    events.extend(self.line(&line));
                }
                _ => self.line.push(byte),
            }
        }
        events
    }

    fn line(&mut self, line: &[u8]) -> Option<SseEvent> {
        let line = if self.started { line } else { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line) };
        self.started = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok();
            }
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<SseEvent> {
        let mut data = std::mem::take(&mut self.data);
        let event = std::mem::take(&mut self.event);
        if data.is_empty() {
            return None;
        }
        data.pop();
        let event = if event.is_empty() { "message".into() } else { event };
        Some(SseEvent { id: self.id.clone(), event, data })
    }
}
