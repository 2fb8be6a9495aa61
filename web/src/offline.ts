// The service worker, which keeps the page's own files for when there is no network.

const WORKER = "/sw.js";

interface Policies {
  createPolicy(
    name: string,
    rules: { createScriptURL: (address: string) => string },
  ): { createScriptURL(address: string): unknown };
}

/** Has the page's files kept from now on, once there is nothing more urgent to load. */
export function keepPage(): void {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  const register = () => {
    // The page works without it, too: for example, under a policy of another server's.
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
