// Reloads the page if one of its files is missing. While a new version is deployed behind a
// proxy, the page may come from one version, and requests for its files may reach the other, which
// lacks them.
// A file that was loaded once stays in the browser, so each try needs fewer files.
(function () {
  var KEPT = "samosachaat.recovering";
  var MOST_RELOADS = 3;
  var RELOADS_WITHIN_MS = 60000;
  var MOST_TRIES = 5;
  var TRY_AGAIN_MS = 250;
  // The texts of the page may be missing, too.
  var TEXTS = {
    en: {
      failed: "The page could not be loaded. Its server may be changing to a new version.",
      moment: "A new version of the page is being installed. One moment…",
      again: "Load it again",
    },
    de: {
      failed:
        "Die Seite konnte nicht geladen werden. Vielleicht wechselt ihr Server gerade die Version.",
      moment: "Eine neue Version der Seite wird eingerichtet. Einen Moment…",
      again: "Neu laden",
    },
    hi: {
      failed: "पेज लोड नहीं हो सका। हो सकता है कि उसका सर्वर नए संस्करण पर जा रहा हो।",
      moment: "पेज का नया संस्करण लगाया जा रहा है। एक पल रुकें…",
      again: "फिर से लोड करें",
    },
  };
  var recovering = false;

  addEventListener(
    "error",
    function (event) {
      var file = event.target;
      var needed =
        file instanceof HTMLScriptElement ||
        (file instanceof HTMLLinkElement && /stylesheet|modulepreload/.test(file.rel));
      if (!needed || recovering) return;
      recovering = true;
      if (document.readyState === "loading") addEventListener("DOMContentLoaded", recover);
      else recover();
    },
    true,
  );

  function recover() {
    if (!mayReload()) {
      say(texts().failed, true);
      return;
    }
    say(texts().moment, false);
    var files = document.querySelectorAll(
      "script[src], link[rel=stylesheet], link[rel=modulepreload]",
    );
    var all = Array.prototype.map.call(files, function (file) {
      return load(file.src || file.href, 1);
    });
    Promise.all(all).then(function () {
      location.reload();
    });
  }

  /** Requests the file until a server behind the proxy has it; the browser then keeps it. */
  function load(address, tries) {
    return fetch(address, { cache: "reload" })
      .then(
        function (response) {
          var type = response.headers.get("Content-Type") || "";
          return response.ok && type.indexOf("text/html") < 0 && response.arrayBuffer();
        },
        function () {
          return false;
        },
      )
      .then(function (loaded) {
        if (loaded || tries >= MOST_TRIES) return undefined;
        return new Promise(function (resolve) {
          setTimeout(resolve, TRY_AGAIN_MS * tries);
        }).then(function () {
          return load(address, tries + 1);
        });
      });
  }

  /** Whether the page has not been reloaded too often in a short time. */
  function mayReload() {
    try {
      var recent = JSON.parse(sessionStorage.getItem(KEPT) || "[]").filter(function (at) {
        return Date.now() - at < RELOADS_WITHIN_MS;
      });
      sessionStorage.setItem(KEPT, JSON.stringify(recent.concat(Date.now())));
      return recent.length < MOST_RELOADS;
    } catch (error) {
      return false;
    }
  }

  /** In the chosen language, or the browser's. */
  function texts() {
    var chosen;
    try {
      chosen = JSON.parse(localStorage.getItem("samosachaat.language"));
    } catch (error) {
      chosen = null;
    }
    var found = [chosen]
      .concat(navigator.languages)
      .map(function (tag) {
        return String(tag).split("-")[0].toLowerCase();
      })
      .find(function (name) {
        return TEXTS[name];
      });
    return TEXTS[found || "en"];
  }

  function say(text, final) {
    var message = document.createElement("p");
    message.setAttribute("role", "alert");
    message.style.margin = "2rem";
    message.textContent = text + " ";
    if (final) {
      var button = document.createElement("button");
      button.type = "button";
      button.textContent = texts().again;
      button.onclick = function () {
        location.reload();
      };
      message.appendChild(button);
    }
    document.querySelector("#app").replaceChildren(message);
  }
})();
