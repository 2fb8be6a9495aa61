import type { RefObject } from "preact";
import { useCallback, useLayoutEffect, useState } from "preact/hooks";

/** How far beyond the visible part rows are rendered, and in what steps that moves. */
const MARGIN_PX = 6_000;
const STEP_PX = 1_000;

/** The heights of a heading and of a row, which are all the same. */
export interface Sizes {
  heading: number;
  row: number;
}

/** The part of a scrolled list that is drawn, in pixels from its top; `onScroll` keeps it in step. */
export function useWindow(box: RefObject<HTMLElement | null>): {
  from: number;
  to: number;
  onScroll: () => void;
} {
  const [step, setStep] = useState(0);
  const onScroll = useCallback(() => {
    setStep(Math.round((box.current?.scrollTop ?? 0) / STEP_PX));
  }, []);
  const at = step * STEP_PX;
  return { from: at - MARGIN_PX, to: at + MARGIN_PX + 2 * STEP_PX, onScroll };
}

/** The heights as they are drawn; a guess before there is anything to measure. */
export function useSizes(box: RefObject<HTMLElement | null>, heading: string, row: string): Sizes {
  const [sizes, setSizes] = useState<Sizes>({ heading: 36, row: 37 });
  useLayoutEffect(() => {
    const height = (selector: string, known: number) =>
      box.current?.querySelector(selector)?.getBoundingClientRect().height || known;
    const now = { heading: height(heading, sizes.heading), row: height(row, sizes.row) };
    if (now.heading !== sizes.heading || now.row !== sizes.row) setSizes(now);
  });
  return sizes;
}

/** Of `count` rows that begin at `top`, the first to be drawn and the one after the last. */
export function rowsWithin(
  { from, to }: { from: number; to: number },
  top: number,
  row: number,
  count: number,
): [first: number, end: number] {
  const clamp = (index: number) => Math.max(0, Math.min(count, index));
  return [clamp(Math.floor((from - top) / row)), clamp(Math.ceil((to - top) / row))];
}
