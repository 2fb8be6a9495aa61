// Before the first paint, so that a dark page does not flash white.
(function () {
  var theme;
  try {
    theme = JSON.parse(localStorage.getItem("samosachaat.theme"));
  } catch (error) {
    theme = null;
  }
  if (theme !== "light" && theme !== "dark") {
    theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  document.documentElement.dataset.theme = theme;
})();
