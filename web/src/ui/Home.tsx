import { useState } from "preact/hooks";
import { begin } from "../state/chats";
import { writeDraft } from "../state/drafts";
import { announce } from "../state/say";
import { refused } from "../state/service";
import { session } from "../state/session";
import { Composer } from "./Composer";
import { Mark } from "./Icon";
import { focusComposer } from "./shell";

const IDEAS = [
  ["Plan", "Plan a rainy Sunday for two friends who love to cook."],
  ["Explain", "Explain how a sourdough starter works, as if I were ten."],
  ["Code", "Write a Python function that finds the longest word in a text."],
  ["Compare", "Make a table that compares tea, coffee and lassi."],
] as const;

/** The beginning of a conversation. */
export function Home() {
  const [version, setVersion] = useState(0);
  const name = session.value?.user.name.split(" ")[0];
  const start = async (text: string) => {
    try {
      await begin(text);
    } catch (error) {
      // It waits where one types.
      refused(error);
      announce((error as Error).message);
      writeDraft(undefined, text);
      setVersion(version + 1);
      focusComposer();
    }
  };
  return (
    <div class="home">
      <div class="hello">
        <Mark lively />
        <h1>
          {greeting()}
          {name ? `, ${name}` : ""}
        </h1>
        <p>What shall we talk about?</p>
      </div>
      <Composer key={version} chat={undefined} />
      <ul class="ideas">
        {IDEAS.map(([kind, text]) => (
          <li key={kind}>
            <button type="button" onClick={() => void start(text)}>
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
