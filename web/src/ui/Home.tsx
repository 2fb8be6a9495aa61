import { useState } from "preact/hooks";
import { writeDraft } from "../state/drafts";
import { session } from "../state/session";
import { Composer } from "./Composer";
import { Mark } from "./Icon";
import { texts } from "../texts";

/** The page of a new conversation. */
export function Home() {
  const t = texts.value.home;
  const [version, setVersion] = useState(0);
  const name = session.value?.user.name.split(" ")[0];
  const start = (text: string) => {
    writeDraft(undefined, text);
    setVersion(version + 1);
  };
  return (
    <div class="home">
      <div class="hello">
        <Mark lively />
        <h1>
          {greeting()}
          {name ? `, ${name}` : ""}
        </h1>
        <p>{t.question}</p>
      </div>
      <Composer key={version} chat={undefined} sendNow={version > 0} />
      <ul class="ideas">
        {t.ideas.map(([kind, text]) => (
          <li key={kind}>
            <button type="button" onClick={() => start(text)}>
              <b>{kind}</b>
              {text}
            </button>
          </li>
        ))}
      </ul>
    </div>
  );
}

function greeting(): string {
  const t = texts.value.home;
  const hour = new Date().getHours();
  if (hour < 5) return t.night;
  if (hour < 12) return t.morning;
  return hour < 18 ? t.afternoon : t.evening;
}
