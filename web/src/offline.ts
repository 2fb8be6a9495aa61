// Registers the service worker, which caches the page's own files for use without a network.

const WORKER = "/sw.js";

interface Policies {
  createPolicy(
    name: string,
    rules: { createScriptURL: (address: string) => string },
  ): { createScriptURL(address: string): unknown };
}

/** Starts caching the page's files, once more urgent requests are done. */
export function keepPage(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  const register = () => {
    // The page works without it, too, for example under another server's policy.
    void (async () => navigator.serviceWorker.register(address()))().catch(() => undefined);
  };
  if (document.readyState === "complete") register();
  else addEventListener("load", register);
}

/** The page's policy allows this one address of code to be given as a text. */
function address(): string {
  const { trustedTypes } = globalThis as { trustedTypes?: Policies };
  const policy = trustedTypes?.createPolicy("worker", { createScriptURL: () => WORKER });
  return (policy?.createScriptURL(WORKER) as string | undefined) ?? WORKER;
}
