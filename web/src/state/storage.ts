// The browser's storage. Without storage (private windows, full disks) the page works, but keeps
// nothing.

const PREFIX = "samosachaat.";

export function read<T>(name: string): T | undefined {
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? undefined : (JSON.parse(text) as T);
  } catch {
    return undefined;
  }
}

/** Keeps the value; undefined removes it. */
export function write(name: string, value: unknown): void {
  try {
    if (value === undefined) localStorage.removeItem(PREFIX + name);
    else localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Neither the page nor the user can correct this.
  }
}

/**
 * Calls back when another tab has changed what is kept under a name that begins so.
 * Returns what ends that.
 */
export function onChange(prefix: string, changed: (name: string) => void): () => void {
  const listener = ({ key, storageArea }: StorageEvent) => {
    if (storageArea === localStorage && key?.startsWith(PREFIX + prefix)) {
      changed(key.slice(PREFIX.length));
    }
  };
  addEventListener("storage", listener);
  return () => removeEventListener("storage", listener);
}
