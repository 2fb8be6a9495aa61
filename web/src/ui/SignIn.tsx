import { useState } from "preact/hooks";
import { api, config } from "../state/service";
import { session, signIn, useToken } from "../state/session";
import { Mark } from "./Icon";
import { texts } from "../texts";
import { explain } from "../state/explain";

/** The page of a user who is not signed in. */
export function SignInPage() {
  return (
    <main class="welcome">
      <div class="card">
        <Mark lively />
        <h1>
          samosa<span>Chaat</span>
        </h1>
        <p>{texts.value.signIn.title}</p>
        <SignInForm />
      </div>
    </main>
  );
}

/** A form for a name if there is a sign-in service, otherwise for a token. */
export function SignInForm() {
  const t = texts.value.signIn;
  const byName = config.signIn !== null;
  const before = session.peek()?.user;
  const [name, setName] = useState(before?.name ?? "");
  const [admin, setAdmin] = useState(before?.is_admin === true);
  const [token, setToken] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  const submit = async (event: Event) => {
    event.preventDefault();
    const text = (byName ? name : token).trim();
    if (!text) return setProblem(byName ? t.noName : t.noToken);
    setBusy(true);
    setProblem("");
    try {
      if (byName) await signIn(config, text, admin);
      else if (!/^[\x21-\x7e]+$/.test(text)) {
        setProblem(t.notAToken);
      } else if (await api.accepts(text)) useToken(text);
      else setProblem(t.refused);
    } catch (error) {
      const unreachable = error instanceof TypeError;
      setProblem(unreachable ? t.unreachable : explain(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <form class="sign-in" onSubmit={submit} noValidate>
      {byName ? (
        <>
          <label class="field">
            <span>{t.name}</span>
            <input
              type="text"
              name="name"
              autoComplete="username"
              maxLength={100}
              autoFocus
              value={name}
              aria-describedby="sign-in-problem"
              onInput={(event) => setName(event.currentTarget.value)}
            />
          </label>
          <label class="check">
            <input
              type="checkbox"
              checked={admin}
              onChange={(event) => setAdmin(event.currentTarget.checked)}
            />
            <span>
              {t.administrator} <small>{t.canLoad}</small>
            </span>
          </label>
        </>
      ) : (
        <label class="field">
          <span>{t.token}</span>
          <textarea
            name="token"
            rows={4}
            autoFocus
            spellcheck={false}
            value={token}
            aria-describedby="sign-in-problem"
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
      )}
      <p id="sign-in-problem" class="problem" role="alert">
        {problem}
      </p>
      <button type="submit" class="primary" disabled={busy}>
        {busy ? t.busy : t.submit}
      </button>
    </form>
  );
}
