// Who is signed in. All tabs share it.

import { signal } from "@preact/signals";
import type { Config } from "../config";
import { Refused } from "../stream";
import { onChange, read, write } from "./storage";
import { texts } from "../texts";

export interface User {
  id: string;
  name: string;
  email?: string;
  /** undefined where only the service knows. */
  is_admin?: boolean | undefined;
}

export interface Session {
  token: string;
  user: User;
}

const KEPT = "session";

export const session = signal<Session | undefined>(read<Session>(KEPT));

/** The token was refused: the user is asked to sign in again, over the page as it is. */
export const expired = signal(false);

onChange(KEPT, () => {
  session.value = read<Session>(KEPT);
  expired.value = false;
});

export function userId(): string {
  return session.peek()?.user.id ?? "nobody";
}

/** The name of a stored value of this user only. */
export function personal(name: string): string {
  return `${name}.${userId()}`;
}

export async function signIn(config: Config, name: string, admin: boolean): Promise<void> {
  const response = await fetch(config.signIn!, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ name, admin }),
  });
  if (!response.ok) throw await Refused.from(response);
  begin((await response.json()) as Session);
}

const text = (claim: unknown) =>
  typeof claim === "string" || typeof claim === "number" ? String(claim) : undefined;

/** Signs in with a pasted token; its claims are only read for display. */
export function useToken(token: string): void {
  const claims = claimsOf(token);
  const id = text(claims["sub"]) ?? "somebody";
  const admin = claims["is_admin"];
  begin({
    token,
    user: {
      id,
      name: text(claims["name"]) ?? text(claims["email"]) ?? texts.peek().signIn.you,
      ...(typeof admin === "boolean" && { is_admin: admin }),
    },
  });
}

export function signOut(): void {
  write(KEPT, undefined);
  session.value = undefined;
  expired.value = false;
}

function begin({ token, user }: Session): void {
  write(KEPT, { token, user });
  session.value = { token, user };
  expired.value = false;
}

/** The claims of a JSON Web Token (RFC 7519); none of a token of another kind. */
function claimsOf(token: string): Record<string, unknown> {
  try {
    const payload = token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/");
    const bytes = Uint8Array.from(atob(payload), (char) => char.charCodeAt(0));
    return JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown>;
  } catch {
    return {};
  }
}
