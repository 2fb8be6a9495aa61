/** English. Its type is that of every language: a text that is missing elsewhere is an error. */
export const en = {
  conversation: {
    exportIt: "Export as Markdown",
    notExported: (why: string) => `Not exported: ${why}`,
    answering: "answering",
    unread: "new answer",
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
    untitled: "Conversation",
  },
  shortcuts: {
    title: "Keyboard shortcuts",
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
