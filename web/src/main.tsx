import { render } from "preact";
import { loadConfig } from "./config";
import { followAddress } from "./state/chats";
import { configure } from "./state/service";
import { keepInStep } from "./state/sync";
import { App } from "./ui/App";
import "./styles/index.css";

const place = document.querySelector("#app")!;

const config = await loadConfig().catch(() => undefined);
place.replaceChildren();
if (config) {
  configure(config);
  keepInStep();
  followAddress();
  render(<App />, place);
} else {
  place.textContent =
    "The page could not be set up: its server does not answer. Reload to try again.";
}
