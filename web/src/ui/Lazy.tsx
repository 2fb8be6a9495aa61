import type { Signal } from "@preact/signals";
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { toast } from "../state/say";
import { texts } from "../texts";

interface Props<T> {
  load: () => Promise<{ default: ComponentType }>;
  isOpen: Signal<T | false | undefined>;
}

/** A dialog whose code is loaded when it is first opened; it is closed if that fails. */
export function Lazy<T>({ load, isOpen }: Props<T>) {
  const [loaded, setLoaded] = useState<ComponentType>();
  useEffect(() => {
    load().then(
      (module) => setLoaded(() => module.default),
      () => {
        isOpen.value = isOpen.peek() === true ? false : undefined;
        toast(texts.peek().partNotLoaded);
      },
    );
  }, []);
  const Loaded = loaded;
  return Loaded ? <Loaded /> : null;
}
