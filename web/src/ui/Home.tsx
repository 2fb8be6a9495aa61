import { useState } from "preact/hooks";
import { writeDraft } from "../state/drafts";
import { session } from "../state/session";
import { Composer } from "./Composer";
import { Mark } from "./Icon";

const IDEAS = [
  ["Plan", "Plan a rainy Sunday for two friends who love to cook."],
  ["Explain", "Explain how a sourdough starter works, for a ten-year-old."],
  ["Code", "Write a Python function that finds the longest word in a text."],
  ["Compare", "Make a table that compares tea, coffee and lassi."],
] as const;

/** The beginning of a conversation. */
export function Home() {
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
        <p>What would you like to talk about?</p>
      </div>
      <Composer key={version} chat={undefined} sendNow={version > 0} />
      <ul class="ideas">
        {IDEAS.map(([kind, text]) => (
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
  const hour = new Date().getHours();
  if (hour < 5) return "Still up";
  if (hour < 12) return "Good morning";
  return hour < 18 ? "Good afternoon" : "Good evening";
}
