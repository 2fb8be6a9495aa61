interface Forms {
  one: string;
  other: string;
}

/** Chooses between the forms that a language has for one and for other numbers. */
export function plural(language: string): (count: number, forms: Forms) => string {
  const rules = new Intl.PluralRules(language);
  return (count, { one, other }) => (rules.select(count) === "one" ? one : other);
}

const by = plural("en");

/** Refusals that the service explains in English; other languages have texts of their own. */
export type Refusal =
  | "bad_request"
  | "nothing_to_answer"
  | "not_authenticated"
  | "forbidden"
  | "not_found"
  | "request_timeout"
  | "conversation_busy"
  | "nothing_to_continue"
  | "engine_cannot_continue"
  | "answer_gone"
  | "payload_too_large"
  | "invalid"
  | "too_many_requests"
  | "too_many_messages"
  | "too_many_answers"
  | "too_many_answers_today"
  | "too_many_tokens_today"
  | "too_many_streams"
  | "too_many_searches"
  | "too_many_failures"
  | "model_refused"
  | "internal_error"
  | "unavailable"
  | "search_timeout"
  | "inference_error"
  | "inference_refused"
  | "model_not_found"
  | "context_too_long"
  | "inference_incomplete"
  | "inference_unavailable"
  | "inference_overloaded"
  | "inference_timeout"
  | "headers_too_large"
  | "method_not_allowed"
  | "unsupported_media_type"
  | "unknown_transfer_coding"
  | "idempotency_key_reused"
  | "database_unavailable"
  | "database_busy"
  | "database_refused"
  | "auth_unavailable"
  | "not_ready"
  | "draining"
  | "user_moving"
  | "too_many_connections"
  | "superseded"
  | "inference_protocol"
  | "http_401"
  | "http_403"
  | "http_404"
  | "http_413"
  | "http_429"
  | "http_500"
  | "not_a_stream"
  | "http_502"
  | "http_503"
  | "http_504"
  | "not_json";

const notKnown = "It is not known whether the service received this message.";

/** English. Its type is that of every language: a text that is missing elsewhere is an error. */
export const en = {
  dir: "ltr" as "ltr" | "rtl",
  close: "Close",
  cancel: "Cancel",
  delete: "Delete",
  save: "Save",
  tryAgain: "Try again",
  tryNow: "Try now",
  copied: "Copied",
  notCopied: "The browser does not allow copying. Select the text and press Ctrl+C.",
  noFiles: "Files cannot be sent. Copy the text into the message.",
  partNotLoaded: "A part of the page could not be loaded. Try again.",
  languageNotLoaded: "The language could not be loaded. Try again.",
  newerPage: "There is a newer version of this page.",
  reload: "Reload",
  notStarted: "The page could not be set up, because its server does not answer.",
  seconds: (count: string) => `${count} s`,
  page: {
    untitled: "Conversation",
    skip: "Skip to the message box",
    sidebar: "Conversations and settings",
    conversations: "Conversations",
    settings: "Settings of this conversation",
    settingsChanged: "Settings of this conversation (changed)",
    notFound: "Page not found",
    noPage: "There is no page at this address.",
    newConversation: "New conversation",
    offline: "You are offline.",
    nothingLost: "Nothing is lost.",
    /** Around a time that counts down. */
    tryingAgain: ["Trying again in ", "."] as [string, string],
    connected: "Connected again",
  },
  service: {
    unreachable: "The service cannot be reached.",
    notTheService: "Something between this page and the service answered in its place.",
    unreadable: "The service sent something that this client cannot read.",
    refusals: {} as Partial<Record<Refusal, string>>,
    /** After a refusal that says when to come back; "" where the service says it itself. */
    comeBack: (() => "") as (minutes: number) => string,
  },
  signIn: {
    title: "Sign in to chat.",
    again: "Please sign in again",
    expired: "Your sign-in has expired. What you typed is kept.",
    signOut: "Sign out instead",
    name: "Your name",
    administrator: "Administrator",
    canLoad: "can load other models",
    token: "Access token",
    noName: "Please enter a name.",
    noToken: "Please paste a token.",
    notAToken: "This is not an access token: it contains a space or a special character.",
    refused: "The service does not accept this token.",
    unreachable: "The sign-in service cannot be reached. Is it running?",
    busy: "Signing in…",
    submit: "Sign in",
    you: "You",
  },
  home: {
    night: "Still up",
    morning: "Good morning",
    afternoon: "Good afternoon",
    evening: "Good evening",
    question: "What would you like to talk about?",
    ideas: [
      ["Plan", "Plan a rainy Sunday for two friends who love to cook."],
      ["Explain", "Explain how a sourdough starter works, for a ten-year-old."],
      ["Code", "Write a Python function that finds the longest word in a text."],
      ["Compare", "Make a table that compares tea, coffee and lassi."],
    ] as [string, string][],
  },
  composer: {
    form: "Your message",
    message: "Message",
    reply: "Reply…",
    ask: "Ask anything…",
    kept: "Your message is kept.",
    sentLater: "It is sent when the connection is back.",
    wait: "Wait for the answer, or stop it with Esc.",
    think: "Think first",
    thinkHint: "Ask the model to think step by step before it answers",
    settings: "Answer settings",
    count: (count: string, most: string) => `${count} of ${most} characters`,
    send: "Send",
    sendHint: "Send (Enter)",
    stop: "Stop the answer",
    stopHint: "Stop the answer (Esc)",
  },
  messages: {
    region: "Messages",
    you: "You",
    notFound: "Conversation not found",
    notLoaded: "The conversation could not be loaded",
    follow: "Follow the answer",
    toEnd: "Go to the end",
    noAnswer: "This message has no answer.",
    getAnswer: "Get an answer",
    edit: "Edit this message",
    remove: "Delete this message",
    removeTitle: "Delete this message?",
    removeHint: "The message and everything that follows it are deleted.",
    removeVersion: "Another version of it is shown instead.",
    versions: "Versions",
    previousVersion: "Previous version",
    nextVersion: "Next version",
    version: (version: string, versions: string) => `Version ${version} of ${versions}`,
    editor: "Edit your message",
    newText: "New text",
    sendNewText: "Send the new text",
    sendAgain: "Send again",
    editUnsent: "Edit",
    discard: "Discard",
    notSent: (why: string) => `Not sent. ${why}`,
    notShown: (why: string) => `Not shown. ${why}`,
    notDeleted: (why: string) => `Not deleted. ${why}`,
    notStopped: (why: string) => `Not stopped. ${why}`,
    deleted: "Message deleted",
    busy: "Wait until the answer ends, or stop it.",
    notKnown,
    givenUp: `You stopped it. ${notKnown}`,
    gone: "This conversation is no longer there.",
    goneButKept: "The text that was not sent is kept in a new conversation.",
    failed: "This page has failed. Reload it and try again.",
  },
  answer: {
    copy: "Copy the answer",
    copyCode: "Copy code",
    table: "Table",
    footnotes: "Footnotes",
    regenerate: "Regenerate",
    regenerateThis: "Regenerate this answer",
    regenerateWith: (model: string) => `Regenerate with ${model}`,
    remove: "Delete this answer",
    more: "More for this answer",
    goOn: "Continue",
    thinking: "Thinking",
    inProgress: "in progress",
    waiting: "Waiting for the answer",
    answering: "Answering",
    stoppingNow: "Stopping",
    stopping: "Stopping…",
    late: "The connection delivers the answer late. The page shows it every few seconds.",
    lost: "The connection was lost. The answer continues, and the page catches up later.",
    notSentYet: "Not sent yet. It is sent as soon as there is a connection.",
    again: "The service was restarted. The answer is written again from its beginning.",
    stopped: "You stopped this answer.",
    stoppedBefore: "You stopped this answer before it began.",
    cutOff: "This answer was cut off.",
    cutOffHere: "This answer was cut off, and ends here.",
    failed: (why: string) => `This answer failed. ${why}`,
    notCompleted: "The model could not complete it.",
    empty: "This answer is empty.",
    tooLong: "This answer reached its maximum length, and ends here.",
    tokens: (count: number, shown: string) =>
      `${shown} ${by(count, { one: "token", other: "tokens" })}`,
    tokensPerSecond: (shown: string) => `${shown} tokens/s`,
    ends: {
      complete: "Answer complete",
      stopped: "Answer stopped",
      interrupted: "Answer interrupted",
      failed: "Answer failed",
    },
    keptStopped: "The new answer was stopped.",
    keptIncomplete: "The new answer was not completed.",
    kept: "This is the previous answer.",
  },
  models: {
    button: (model: string) => `Model: ${model}`,
    notKnown: "not known",
    none: "No model",
    loaded: "loaded",
    notAvailable: "not available",
    engineNotAvailable: (engine: string) => `${engine}, not available`,
    from: (engine: string) => `from ${engine}`,
    askAdministrator: "An administrator can load another model.",
    add: "To add a model, put it into the models folder of the local stack.",
    takesMinutes: "Loading another model can take minutes, and changes it for all users.",
    loading: (model: string) => `Loading ${model}`,
    ready: (model: string) => `${model} is ready.`,
    notLoaded: (model: string, why: string) => `${model} was not loaded: ${why}`,
  },
  palette: {
    title: "Find a conversation",
    titleHint: "Find a conversation (Ctrl+K)",
    label: "Find a conversation or a command",
    placeholder: "Search titles and messages",
    searching: "Searching",
    found: "Found",
    failed: (why: string) => `The search failed. ${why}`,
    onlyNewest: "Only the newest results are shown. Add a word to narrow the search.",
    nothing: "No results.",
    theme: "Light or dark",
  },
  sidebar: {
    home: "samosaChaat, new conversation",
    close: "Close the list",
    empty: "Your conversations appear here.",
    favourites: "Favourites",
    today: "Today",
    yesterday: "Yesterday",
    person: (name: string, isAdmin: boolean) =>
      `${name}${isAdmin ? " admin" : ""}: settings and sign-out`,
    admin: "admin",
    signOut: "Sign out",
  },
  conversation: {
    more: (title: string) => `More for ${title}`,
    rename: "Rename",
    newTitle: "New title",
    favour: "Add to favourites",
    unfavour: "Remove from favourites",
    exportIt: "Export as Markdown",
    notExported: (why: string) => `Not exported: ${why}`,
    notSaved: (why: string) => `Not saved: ${why}`,
    deleted: (title: string) => `Deleted “${title}”`,
    undo: "Undo",
    notDeleted: "Not deleted",
    answering: "answering",
    unread: "new answer",
  },
  settings: {
    title: "Settings",
    answers: "Answers",
    temperature: "Temperature",
    temperatureHint: "0 always takes the most likely token; higher values vary more.",
    length: "Maximum length",
    lengthHint: "In tokens; a token is about three quarters of a word.",
    topK: "Top-k",
    topKHint: "How many of the most likely tokens are considered.",
    standard: "default",
    /** Names the option of a default, for screen readers. */
    standardOf: (label: string) => ` ${label.toLowerCase()}`,
    think: "Think step by step first",
    searchWeb: "Search the web, if the model can",
    reset: "Reset to the defaults",
    appearance: "Appearance",
    themes: { light: "Light", dark: "Dark", system: "System" },
    language: "Language",
    languageOfBrowser: "As the browser",
  },
  conversationSettings: {
    title: "This conversation",
    instructions: "Instructions",
    instructionsHint: "What the model should know or do in this conversation",
    tags: "Tags",
    tagsLabel: "Tags, with commas between them",
    tagsHint: "work, recipes",
    tooLong: (most: string) => `The instructions are longer than ${most} characters.`,
    tooManyTags: (most: string, chars: string) =>
      `There can be ${most} tags of ${chars} characters.`,
  },
  tags: {
    filter: "Filter by tag",
    all: "All conversations",
    shown: (tag: string) => `Only conversations tagged ${tag}`,
    clear: "Show all conversations",
    none: "No conversation has this tag.",
    showAll: (tag: string) => `Show the conversations tagged ${tag}`,
  },
  notifications: {
    title: "Notifications",
    label: "Tell me when an answer ends while the page is out of sight",
    refused: "The browser does not allow notifications for this page.",
    ended: "An answer is complete",
    failed: "An answer has ended early",
  },
  shortcuts: {
    title: "Keyboard shortcuts",
    /** As they are written on the keyboard. */
    keys: {
      Ctrl: "Ctrl",
      Shift: "Shift",
      Enter: "Enter",
      Delete: "Delete",
      Escape: "Esc",
      ArrowUp: "↑",
      ArrowDown: "↓",
    },
    of: {
      find: "find a conversation or a command",
      newConversation: "new conversation",
      help: "this list, outside text fields",
      helpAnywhere: "this list",
      undo: "undo the deletion, outside text fields",
      stop: "stop the answer",
      send: "send",
      sendOnTouch: "send, on a touch screen; send the new text of a message",
      newLine: "new line",
      previous: "previous conversation, in the list",
      next: "next conversation, in the list",
      rename: "rename, in the list",
      remove: "delete, in the list",
    },
  },
};
