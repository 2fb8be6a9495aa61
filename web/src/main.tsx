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

const place = document.querySelector("#app")!;

// A part of the page that is loaded later may be gone after a deploy.
addEventListener("vite:preloadError", () => {
  toast("There is a newer version of this page.", {
    ms: 60_000,
    action: { label: "Reload", run: () => location.reload() },
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
      The page could not be set up, because its server does not answer.{" "}
      <button type="button" class="small" onClick={() => void start()}>
        Try again
      </button>
    </p>
  );
}

keepDrops();
keepPage();
await start();
