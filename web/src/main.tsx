import { render } from "preact";
import { loadConfig } from "./config";
import { followAddress } from "./state/chats";
import { configure } from "./state/service";
import { keepInStep } from "./state/sync";
import { App } from "./ui/App";
import "./styles/index.css";

const place = document.querySelector("#app")!;

try {
  configure(await loadConfig());
  keepInStep();
  followAddress();
  place.replaceChildren();
  render(<App />, place);
} catch {
  place.textContent =
    "The page could not be set up: its server does not answer. Reload to try again.";
}
