// Highlighting and formulas, a slice at a time: a text with thousands of them does not block the tab.

const SLICE_MS = 30;

let spent = 0;
let scheduled = false;
const waiting = new Set<() => void>();

/** Whether the current slice has time left. */
export function affordable(): boolean {
  return spent < SLICE_MS && waiting.size === 0;
}

/** Return what `work` returns; its time counts for the current slice. */
export function spend<T>(work: () => T): T {
  const start = performance.now();
  try {
    return work();
  } finally {
    spent += performance.now() - start;
    schedule();
  }
}

/** Do `work` in the first slice that has time for it. Return a function that cancels it. */
export function later(work: () => void): () => void {
  const entry = () => work();
  waiting.add(entry);
  schedule();
  return () => waiting.delete(entry);
}

function schedule(): void {
  if (scheduled) return;
  scheduled = true;
  setTimeout(() => {
    scheduled = false;
    spent = 0;
    for (const work of waiting) {
      if (spent >= SLICE_MS) break;
      waiting.delete(work);
      spend(work);
    }
    if (waiting.size > 0) schedule();
  });
}
