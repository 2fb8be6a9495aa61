import { render } from "preact";
import { loadConfig } from "./config";
import { followAddress } from "./state/chats";
import { keepPage } from "./offline";
import { configure } from "./state/service";
import { keepInStep } from "./state/sync";
import { toast } from "./state/say";
import { App } from "./ui/App";
import { keepDrops } from "./ui/shell";
import "./styles/index.css";
import { followLanguage } from "./state/language";
import { texts } from "./texts";

const place = document.querySelector("#app")!;

// A part of the page that is loaded later may be gone after a deploy.
addEventListener("vite:preloadError", () => {
  toast(texts.peek().newerPage, {
    ms: 60_000,
    action: { label: texts.peek().reload, run: () => location.reload() },
  });
});

async function start(): Promise<void> {
  try {
    configure(await loadConfig());
  } catch {
    render(<NotStarted />, place);
    return;
  }
  render(null, place);
  place.replaceChildren();
  keepInStep();
  followAddress();
  render(<App />, place);
}

function NotStarted() {
  return (
    <p class="not-started" role="alert">
      {texts.value.notStarted}{" "}
      <button type="button" class="small" onClick={() => void start()}>
        {texts.value.tryAgain}
      </button>
    </p>
  );
}

keepDrops();
keepPage();
await followLanguage();
await start();
