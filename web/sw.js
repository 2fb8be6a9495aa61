// Keeps the page's own files, so that the page opens without a network, and so that a part of it that
// is loaded late is still there after a deploy. Requests to the API do not pass through here. The
// build puts BUILD, the version and its files, before the first line.
const { version, entry, files } = BUILD;
const PREFIX = "samosachaat-shell-";
const CACHE = PREFIX + version;
/** The version before stays, for tabs that were opened before a deploy. */
const MOST_VERSIONS = 2;
const PAGE = "/";
const CONFIG = "/config.json";

self.addEventListener("install", (event) => {
  event.waitUntil(
    fill().then(
      () => self.skipWaiting(),
      async (error) => {
        await caches.delete(CACHE);
        throw error;
      },
    ),
  );
});

self.addEventListener("activate", (event) => {
  event.waitUntil(forgetOldVersions().then(() => self.clients.claim()));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const { origin, pathname } = new URL(request.url);
  if (request.method !== "GET" || origin !== self.location.origin) return;
  if (request.mode === "navigate") {
    if (pathname === PAGE || pathname.startsWith("/c/")) event.respondWith(page(request));
  } else if (pathname.startsWith("/assets/")) event.respondWith(asset(request));
  else if (pathname === CONFIG || files.includes(pathname)) event.respondWith(newest(request));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(show(event.notification.data));
});

/** Caches all files of this version. Behind a proxy, the page may come from another one. */
async function fill() {
  const cache = await caches.open(CACHE);
  const response = await fetch(PAGE, { cache: "no-cache" });
  const isOurs = response.ok && !response.redirected;
  if (!isOurs || !(await response.clone().text()).includes(entry)) {
    throw new Error("The page is not of this version.");
  }
  await cache.put(PAGE, response);
  await cache.addAll([...files, CONFIG]);
}

async function forgetOldVersions() {
  const versions = (await caches.keys()).filter((name) => name.startsWith(PREFIX));
  const old = versions.filter((name) => name !== CACHE).slice(0, 1 - MOST_VERSIONS);
  await Promise.all(old.map((name) => caches.delete(name)));
}

/** The page from the server; the cached one if there is no response. */
async function page(request) {
  const response = await fetch(request).catch(() => undefined);
  if (response && response.status < 500) return response;
  const kept = await (await caches.open(CACHE)).match(PAGE, { ignoreVary: true });
  return kept ?? response ?? Response.error();
}

/** A file whose name changes with its contents. */
async function asset(request) {
  return (await caches.match(request.url, { ignoreVary: true })) ?? fetch(request);
}

/** A file whose name stays the same: from the server, or the cached one. */
async function newest(request) {
  const cache = await caches.open(CACHE);
  const response = await fetch(request).catch(() => undefined);
  if (response?.ok) {
    if (new URL(request.url).pathname === CONFIG) await cache.put(CONFIG, response.clone());
    return response;
  }
  return (await cache.match(request.url, { ignoreVary: true })) ?? response ?? Response.error();
}

/** Brings a window of the page to the front and has it open this address. */
async function show(address) {
  const [client] = await self.clients.matchAll({ type: "window" });
  if (!client) return self.clients.openWindow(address);
  client.postMessage({ address });
  return client.focus();
}
