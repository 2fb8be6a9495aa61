import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { toast } from "../state/say";

/** A component whose code is loaded when it is first shown. */
export function Lazy({ load }: { load: () => Promise<{ default: ComponentType }> }) {
  const [loaded, setLoaded] = useState<ComponentType>();
  useEffect(() => {
    load().then(
      (module) => setLoaded(() => module.default),
      () => toast("A part of the page could not be loaded. Try again."),
    );
  }, []);
  const Loaded = loaded;
  return Loaded ? <Loaded /> : null;
}
