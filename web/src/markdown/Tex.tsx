import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { affordable, later, spend } from "./budget";

type Katex = typeof import("./katex");
let katex: Katex | undefined;
let loading: Promise<void> | undefined;

interface Formula {
  source: string;
  display: boolean;
  /** Shown as source: it is incomplete, or there are too many formulas. */
  asSource: boolean;
}

/** A formula; its source until KaTeX is loaded, or if it cannot be rendered. */
export function Tex({ source, display, asSource }: Formula) {
  const place = useRef<HTMLSpanElement>(null);
  const [loaded, setLoaded] = useState(katex !== undefined);
  useEffect(() => {
    if (loaded || asSource) return;
    loading ??= import("./katex").then((module) => {
      katex = module;
    });
    loading.then(
      () => setLoaded(true),
      () => (loading = undefined),
    );
  }, [loaded, asSource]);
  const set = loaded && !asSource;
  useLayoutEffect(() => {
    if (!set) return;
    const render = () => katex!.render(source, place.current!, display);
    if (affordable()) return spend(render);
    katex!.showSource(source, place.current!);
    return later(render);
  }, [set, source, display]);
  const name = display ? "tex display" : "tex";
  // Two elements: KaTeX owns the content of the second one.
  return set ? (
    <span key="tex" class={name} ref={place} tabIndex={display ? 0 : undefined} />
  ) : (
    <code key="source" class={name}>
      {source.trim()}
    </code>
  );
}
