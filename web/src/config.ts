const DEADLINE_MS = 15_000;

/** The page's configuration, from /config.json. */
export interface Config {
  /** The API's address; "" on the page's own origin. */
  api: string;
  /** The address that exchanges a name for a token; null if users paste a token. */
  signIn: string | null;
}

export async function loadConfig(): Promise<Config> {
  const response = await fetch("/config.json", {
    cache: "no-cache",
    signal: AbortSignal.timeout(DEADLINE_MS),
  });
  if (!response.ok) throw new Error(`/config.json: ${response.status}`);
  const { api, signIn } = (await response.json()) as Partial<Config>;
  return { api: (api ?? "").replace(/\/$/, ""), signIn: signIn ?? null };
}
