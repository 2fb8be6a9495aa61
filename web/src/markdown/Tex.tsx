import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

type Katex = typeof import("./katex");
let katex: Katex | undefined;
let loading: Promise<void> | undefined;

/** A formula; its source until KaTeX is there, or where it cannot be read. */
export function Tex({ source, display }: { source: string; display: boolean }) {
  const place = useRef<HTMLSpanElement>(null);
  const [loaded, setLoaded] = useState(katex !== undefined);
  useEffect(() => {
    if (loaded) return;
    loading ??= import("./katex").then((module) => {
      katex = module;
    });
    loading.then(
      () => setLoaded(true),
      () => (loading = undefined),
    );
  }, [loaded]);
  useLayoutEffect(() => {
    if (loaded && place.current) katex!.render(source, place.current, display);
  }, [loaded, source, display]);
  const name = display ? "tex display" : "tex";
  // Two elements: KaTeX owns the content of the second one.
  return loaded ? (
    <span key="tex" class={name} ref={place} tabIndex={display ? 0 : undefined} />
  ) : (
    <code key="source" class={name}>
      {source.trim()}
    </code>
  );
}
