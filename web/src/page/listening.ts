/** The channels that a person listens to: the same in all tabs of a browser, and after a reload. */

const KEY = "progressd-listening";
/** A stream takes up to 100 channels. */
const MOST = 50;

export function createListening(onChange: () => void) {
  let channels = read();

  function write(next: readonly string[]): void {
    channels = next;
    try {
      localStorage.setItem(KEY, channels.join(" "));
    } catch {
      // Where nothing may be stored, it holds until the page is left.
    }
    onChange();
  }

  // Told to the other tabs only.
  window.addEventListener("storage", ({ key }) => {
    if (key !== KEY) return;
    channels = read();
    onChange();
  });

  return {
    channels: () => channels,
    add: (channel: string) => write([...new Set([...channels, channel])].slice(-MOST)),
    remove: (channel: string) => write(channels.filter((other) => other !== channel)),
  };
}

function read(): readonly string[] {
  try {
    return (
      localStorage
        .getItem(KEY)
        ?.split(" ")
        .filter((channel) => channel !== "") ?? []
    );
  } catch {
    return [];
  }
}
