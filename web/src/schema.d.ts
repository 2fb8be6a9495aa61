// Written by `npm run types` from the service's OpenAPI description.

export interface paths {
    "/api/admin/audit": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read Audit
         * @description Return the acts of administrators, newest first. Reading this log is not recorded in it.
         */
        get: operations["read_audit_api_admin_audit_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/admin/usage": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read Usage
         * @description Return the answers and tokens of all users, or of one, by user, by day or by model.
         *
         *     By user, those with the most tokens come first, in pages. Those who have been erased are one
         *     user without an id.
         */
        get: operations["read_usage_api_admin_usage_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/admin/users/{user_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Delete User
         * @description Erase everything of a user, as `DELETE /api/me` does; running answers are stopped.
         *
         *     The service has no list of users: the call also succeeds for one without data. A request that
         *     fails may have erased a part: repeat it. The act stays in the audit log, without the user's id.
         */
        delete: operations["delete_user_api_admin_users__user_id__delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/admin/users/{user_id}/limits": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read Limits
         * @description Return the limits set for one user, and what is left of them today.
         */
        get: operations["read_limits_api_admin_users__user_id__limits_get"];
        /**
         * Set Limits
         * @description Replace the limits of one user; they apply at once, on all replicas.
         *
         *     The service has no list of users: limits can be set before a user's first message.
         */
        put: operations["set_limits_api_admin_users__user_id__limits_put"];
        post?: never;
        /**
         * Remove Limits
         * @description Remove the limits of one user, so that the settings apply.
         */
        delete: operations["remove_limits_api_admin_users__user_id__limits_delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/changes": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Follow Changes
         * @description Stream the changes of the user's conversations, made on any replica and device.
         *
         *     Without a cursor it starts with the next change. A cursor is valid for a day. After that, the
         *     stream starts with `resync`: load the list again.
         */
        get: operations["follow_changes_api_changes_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/chat": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Send Turn
         * @description Save the last message and stream its answer, or regenerate an answer.
         *
         *     An unknown `id` begins a conversation. The same message again streams the same answer.
         */
        post: operations["send_turn_api_chat_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/chat/{chat_id}/messages": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Messages
         * @description Return the conversation as UI messages, for the first load of a page.
         *
         *     While an answer runs, they end with its question: resume the stream for the answer. Of a
         *     very long conversation, the newest messages: 2,000, and 4 MB of JSON.
         */
        get: operations["list_messages_api_chat__chat_id__messages_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/chat/{chat_id}/stop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Stop
         * @description Stop the running answer, on whichever replica it runs; the text so far is kept.
         */
        post: operations["stop_api_chat__chat_id__stop_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/chat/{chat_id}/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Resume Stream
         * @description Stream the running answer from its start.
         *
         *     `chat_id` may be the `x-workflow-run-id` of a stream that broke; its answer may have ended.
         */
        get: operations["resume_stream_api_chat__chat_id__stream_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Conversations
         * @description Return the user's conversations, newest activity first, also grouped by day.
         */
        get: operations["list_conversations_api_conversations_get"];
        put?: never;
        /**
         * Create Conversation
         * @description Create a conversation; without a title, its first message gives it one.
         *
         *     A placeholder ("New chat", "New conversation", "Untitled", in any case) counts as no title. With
         *     `fork`, it begins with a copy of the path to a message, and has the other's title, model,
         *     instructions, options, tags and `expires_at` unless they are given. After `expires_at` a
         *     conversation is not found any more; it is deleted when no answer runs in it.
         */
        post: operations["create_conversation_api_conversations_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Open Conversation
         * @description Return the conversation with its messages, oldest first; a running answer has its text so
         *     far.
         *
         *     A page ends after `limit` messages or 4 MB of JSON, but has at least one message. If
         *     `next_before` is not null, there are older messages: pass it as `before`.
         */
        get: operations["open_conversation_api_conversations__conversation_id__get"];
        /**
         * Rename Conversation
         * @description Give the conversation a title. A placeholder such as "New chat" leaves the title as it is.
         */
        put: operations["rename_conversation_api_conversations__conversation_id__put"];
        post?: never;
        /**
         * Delete Conversation
         * @description Delete the conversation with its messages; a running answer is stopped.
         */
        delete: operations["delete_conversation_api_conversations__conversation_id__delete"];
        options?: never;
        head?: never;
        /**
         * Change Conversation
         * @description Change the fields that are given, each as a whole.
         *
         *     A placeholder such as "New chat" is no title. Null removes `instructions`, `options` and
         *     `expires_at`.
         */
        patch: operations["change_conversation_api_conversations__conversation_id__patch"];
        trace?: never;
    };
    "/api/conversations/{conversation_id}/continue": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Continue Answer
         * @description Continue the last answer after it was stopped, interrupted or cut by its length.
         *
         *     The message stays the same; the stream contains only the new text. 409 while an answer runs,
         *     read by a client or not; with `if_busy: "stop"`, that answer is stopped and continued.
         */
        post: operations["continue_answer_api_conversations__conversation_id__continue_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/export": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Export Conversation
         * @description Download the conversation: its whole tree as JSON, or the messages shown as Markdown.
         */
        get: operations["export_conversation_api_conversations__conversation_id__export_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/messages": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Send Message
         * @description Save the message, and stream its answer.
         *
         *     It is added after the last message shown, or after `parent_id`: the path to it is shown then. To
         *     edit a message, send its new text with the `parent_id` of the old one, which stays as a version.
         *
         *     The answer belongs to the conversation: it is written to its end and saved even if the client
         *     disconnects. `done` is sent after it has been saved.
         */
        post: operations["send_message_api_conversations__conversation_id__messages_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/messages/{message_id}": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Delete Message
         * @description Delete the message and everything below it.
         *
         *     Another version, if there is one, is shown instead. 409 while an answer below it runs.
         */
        delete: operations["delete_message_api_conversations__conversation_id__messages__message_id__delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/messages/{message_id}/versions": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Versions
         * @description Return the messages with the same parent as this one, in their order.
         */
        get: operations["list_versions_api_conversations__conversation_id__messages__message_id__versions_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/path": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        /**
         * Show Path
         * @description Show the path through a message, down to its newest leaf. 409 while an answer runs.
         */
        put: operations["show_path_api_conversations__conversation_id__path_put"];
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/regenerate": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Regenerate
         * @description Write the last answer, or the one of `message_id`, again, as a new version.
         *
         *     The old one stays shown until the new one is complete, and then stays as a version, with what
         *     followed it.
         */
        post: operations["regenerate_api_conversations__conversation_id__regenerate_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/stop": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Stop
         * @description Stop the running answer, on whichever replica it runs; the text so far is kept.
         */
        post: operations["stop_api_conversations__conversation_id__stop_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/conversations/{conversation_id}/stream": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Join Stream
         * @description Stream the running answer, on whichever replica it runs, after the last received event.
         */
        get: operations["join_stream_api_conversations__conversation_id__stream_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/export": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Export Everything
         * @description Download everything of the user as NDJSON, newest activity first.
         *
         *     A download that ends early is cut off, so that the client knows.
         */
        get: operations["export_everything_api_export_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/health": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Health
         * @description Liveness: the process answers. No authentication, no I/O.
         */
        get: operations["health_api_health_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/import": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Import Conversations
         * @description Import conversations: NDJSON as exported, or ChatGPT's, Open WebUI's or LibreChat's file.
         *
         *     A ZIP archive is read as it arrives, and its JSON files imported: of an export of ChatGPT, its
         *     `conversations.json`.
         *     Each conversation is imported as a whole or not at all. Importing twice changes nothing, so an
         *     import that was cut off is repeated. Messages without text are left out: calls of tools, hidden
         *     ones.
         */
        post: operations["import_conversations_api_import_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/me": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        post?: never;
        /**
         * Delete Me
         * @description Erase everything of the user; running answers are stopped.
         *
         *     A request that fails may have erased a part: repeat it.
         */
        delete: operations["delete_me_api_me_delete"];
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/models": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Models
         * @description Return the models of all engines; those of an unreachable engine are not available.
         *
         *     If samosaChaat's inference service is the only engine, its own list is passed on unchanged.
         */
        get: operations["list_models_api_models_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/models/swap": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        get?: never;
        put?: never;
        /**
         * Swap Model
         * @description Make the inference service load another model. This may take minutes.
         */
        post: operations["swap_model_api_models_swap_post"];
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/ready": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Ready
         * @description Readiness: the database answers, its schema is not behind, this replica is not leaving.
         */
        get: operations["ready_api_ready_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/search": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Search
         * @description Return the titles and messages that contain every word, newest first.
         *
         *     Parts of words match, in any script; case is ignored. A title counts as new as the last
         *     activity in its conversation.
         */
        get: operations["search_api_search_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/tags": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * List Tags
         * @description Return the tags of all conversations of the user, each once.
         */
        get: operations["list_tags_api_tags_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/api/usage": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Read Usage
         * @description Return the user's answers and tokens by day or by model, and the rest of today's limits.
         *
         *     Each end of an answer counts once. If an engine reports no usage, the events with text count as
         *     tokens; `estimated` is the number of such answers.
         */
        get: operations["read_usage_api_usage_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
    "/metrics": {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        /**
         * Metrics
         * @description Return metrics for Prometheus, added up over all workers.
         */
        get: operations["metrics_metrics_get"];
        put?: never;
        post?: never;
        delete?: never;
        options?: never;
        head?: never;
        patch?: never;
        trace?: never;
    };
}
export type webhooks = Record<string, never>;
export interface components {
    schemas: {
        /**
         * AdminUsagePage
         * @example {
         *       "items": [
         *         {
         *           "answers": 3,
         *           "by_status": {
         *             "complete": 2,
         *             "stopped": 1
         *           },
         *           "estimated": 0,
         *           "input_tokens": 410,
         *           "output_tokens": 96,
         *           "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8"
         *         }
         *       ]
         *     }
         */
        AdminUsagePage: {
            /** Items */
            items: components["schemas"]["UsageSum"][];
            /**
             * Next Offset
             * @description pass it as `offset` for the next users
             */
            next_offset: number | null;
        };
        /**
         * AnswerEvent
         * @description An answer that began or ended.
         */
        AnswerEvent: {
            answer: components["schemas"]["ChangedAnswer"];
        };
        /** Attempt */
        Attempt: {
            /** Attempt */
            attempt: number;
        };
        /** AuditEntry */
        AuditEntry: {
            /**
             * Act
             * @enum {string}
             */
            act: "delete_user" | "read_limits" | "read_usage" | "remove_limits" | "set_limits" | "swap_model";
            /** Administrator Id */
            administrator_id: string;
            /**
             * At
             * Format: date-time
             */
            at: string;
            /** Details */
            details: {
                [key: string]: unknown;
            };
            /** Id */
            id: number;
            /** Trace Id */
            trace_id: string;
            /**
             * User Id
             * @description the user concerned; null if none or erased
             */
            user_id: string | null;
        };
        /**
         * AuditPage
         * @example {
         *       "items": [
         *         {
         *           "act": "set_limits",
         *           "administrator_id": "0d0cfa5e-6a8c-5b0f-9d5e-2f6d4f2b8a11",
         *           "at": "2026-11-22T09:31:12.456789+00:00",
         *           "details": {
         *             "answers_per_day": 200
         *           },
         *           "id": 7,
         *           "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
         *           "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8"
         *         }
         *       ]
         *     }
         */
        AuditPage: {
            /** Items */
            items: components["schemas"]["AuditEntry"][];
            /**
             * Next Cursor
             * @description pass it as `cursor` for earlier acts
             */
            next_cursor: string | null;
        };
        /** ChangedAnswer */
        ChangedAnswer: {
            /** Conversation Id */
            conversation_id: string;
            /** Message Id */
            message_id: string;
            /**
             * Status
             * @enum {string}
             */
            status: "generating" | "complete" | "stopped" | "interrupted" | "failed";
        };
        /**
         * Conversation
         * @example {
         *       "created_at": "2026-11-22T09:30:00.123456+00:00",
         *       "id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *       "instructions": null,
         *       "is_favorited": false,
         *       "metadata": {},
         *       "model_tag": "default",
         *       "options": null,
         *       "tags": [],
         *       "title": "What is the capital of France?",
         *       "updated_at": "2026-11-22T09:31:12.456789+00:00",
         *       "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8"
         *     }
         */
        Conversation: {
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /**
             * Expires At
             * @description when a temporary conversation is deleted
             */
            expires_at?: string | null;
            /** Id */
            id: string;
            /** Instructions */
            instructions: string | null;
            /** Is Favorited */
            is_favorited: boolean;
            /** Metadata */
            metadata: {
                [key: string]: string;
            };
            /** Model Tag */
            model_tag: string;
            options: components["schemas"]["ConversationOptions"] | null;
            /** Tags */
            tags: string[];
            /** Title */
            title: string;
            /**
             * Updated At
             * Format: date-time
             */
            updated_at: string;
            /** User Id */
            user_id: string;
        };
        /**
         * ConversationEvent
         * @description The newest state of a conversation that was created or has changed.
         */
        ConversationEvent: {
            conversation: components["schemas"]["Conversation"];
        };
        /**
         * ConversationOptions
         * @description Defaults for the answers of one conversation.
         */
        ConversationOptions: {
            /**
             * Max Tokens
             * @default null
             * @example 512
             */
            max_tokens: number | null;
            /**
             * Temperature
             * @default null
             * @example 0.7
             */
            temperature: number | null;
            /**
             * Thinking Mode
             * @default null
             */
            thinking_mode: boolean | null;
            /**
             * Top K
             * @default null
             * @example 40
             */
            top_k: number | null;
        };
        /**
         * ConversationPage
         * @example {
         *       "grouped": {
         *         "2026-11-22": [
         *           {
         *             "created_at": "2026-11-22T09:30:00.123456+00:00",
         *             "id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *             "is_favorited": false,
         *             "metadata": {},
         *             "model_tag": "default",
         *             "tags": [],
         *             "title": "What is the capital of France?",
         *             "updated_at": "2026-11-22T09:31:12.456789+00:00",
         *             "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8"
         *           }
         *         ]
         *       },
         *       "items": [
         *         {
         *           "created_at": "2026-11-22T09:30:00.123456+00:00",
         *           "id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *           "is_favorited": false,
         *           "metadata": {},
         *           "model_tag": "default",
         *           "tags": [],
         *           "title": "What is the capital of France?",
         *           "updated_at": "2026-11-22T09:31:12.456789+00:00",
         *           "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8"
         *         }
         *       ],
         *       "limit": 50,
         *       "offset": 0
         *     }
         */
        ConversationPage: {
            /**
             * Grouped
             * @description the same, by the date of `updated_at` in the requested time zone
             */
            grouped: {
                [key: string]: components["schemas"]["Conversation"][];
            };
            /** Items */
            items: components["schemas"]["Conversation"][];
            /** Limit */
            limit: number;
            /**
             * Next Cursor
             * @description pass it as `cursor` for the next page
             */
            next_cursor: string | null;
            /** Offset */
            offset: number;
        };
        /**
         * ConversationWithMessages
         * @example {
         *       "created_at": "2026-11-22T09:30:00.123456+00:00",
         *       "id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *       "is_favorited": false,
         *       "messages": [
         *         {
         *           "content": "Paris.",
         *           "conversation_id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *           "created_at": "2026-11-22T09:31:12.456789+00:00",
         *           "finish_reason": "stop",
         *           "id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c6a",
         *           "inference_time_ms": 312,
         *           "model_tag": "default",
         *           "parent_id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c69",
         *           "role": "assistant",
         *           "status": "complete",
         *           "token_count": 2,
         *           "usage": {
         *             "input_tokens": 14,
         *             "output_tokens": 2
         *           },
         *           "version": 1,
         *           "versions": 1
         *         }
         *       ],
         *       "metadata": {},
         *       "model_tag": "default",
         *       "tags": [],
         *       "title": "What is the capital of France?",
         *       "updated_at": "2026-11-22T09:31:12.456789+00:00",
         *       "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8"
         *     }
         */
        ConversationWithMessages: {
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /**
             * Expires At
             * @description when a temporary conversation is deleted
             */
            expires_at?: string | null;
            /** Id */
            id: string;
            /** Instructions */
            instructions: string | null;
            /** Is Favorited */
            is_favorited: boolean;
            /** Messages */
            messages: components["schemas"]["Message"][];
            /** Metadata */
            metadata: {
                [key: string]: string;
            };
            /** Model Tag */
            model_tag: string;
            /**
             * Next Before
             * @description pass it as `before` for the messages before these
             */
            next_before: string | null;
            options: components["schemas"]["ConversationOptions"] | null;
            /** Tags */
            tags: string[];
            /** Title */
            title: string;
            /**
             * Updated At
             * Format: date-time
             */
            updated_at: string;
            /** User Id */
            user_id: string;
        };
        /**
         * CursorEvent
         * @description The position at which the changes start.
         */
        CursorEvent: {
            /**
             * Cursor
             * @constant
             */
            cursor: true;
        };
        /** DayLimit */
        DayLimit: {
            /** Left */
            left: number;
            /** Limit */
            limit: number;
            /** Used */
            used: number;
        };
        /** DayLimits */
        DayLimits: {
            /** @description null: no limit */
            answers_per_day: components["schemas"]["DayLimit"] | null;
            /**
             * Resets At
             * Format: date-time
             */
            resets_at: string;
            /** @description null: no limit */
            tokens_per_day: components["schemas"]["DayLimit"] | null;
        };
        /** DeletedEvent */
        DeletedEvent: {
            /**
             * Deleted
             * @description the conversation's id
             */
            deleted: string;
        };
        /** DoneEvent */
        DoneEvent: {
            /**
             * Done
             * @constant
             */
            done: true;
            /** Finish Reason */
            finish_reason: ("stop" | "length" | "content_filter") | null;
            /** Inference Time Ms */
            inference_time_ms: number;
            /**
             * Kept Message Id
             * @description the old answer that an undone regeneration leaves in place
             * @default null
             */
            kept_message_id: string | null;
            /** Message Id */
            message_id: string;
            /** Model Tag */
            model_tag: string;
            /**
             * Status
             * @enum {string}
             */
            status: "generating" | "complete" | "stopped" | "interrupted" | "failed";
            /** Token Count */
            token_count: number;
            usage: components["schemas"]["Usage"] | null;
        };
        /** ErrorEvent */
        ErrorEvent: {
            /** Detail */
            detail: string;
            /** Error */
            error: string;
        };
        /** FailedImport */
        FailedImport: {
            /** Detail */
            detail: string;
            /**
             * Line
             * @description the line of NDJSON, or the element of the array, from 1
             */
            line: number;
        };
        /** FieldError */
        FieldError: {
            /** Field */
            field: string;
            /** Reason */
            reason: string;
        };
        /** FoundItem */
        FoundItem: {
            conversation: components["schemas"]["Conversation"];
            /**
             * Matches
             * @description from–to, in code points (not UTF-16 units or bytes) of the snippet
             */
            matches: [
                number,
                number
            ][];
            /** @description null if the title matched */
            message: components["schemas"]["FoundMessage"] | null;
            /**
             * Snippet
             * @description one line of the text around the first match
             */
            snippet: string;
        };
        /** FoundMessage */
        FoundMessage: {
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /** Id */
            id: string;
            /**
             * Role
             * @enum {string}
             */
            role: "user" | "assistant" | "system";
        };
        /**
         * FoundPage
         * @example {
         *       "items": [
         *         {
         *           "conversation": {
         *             "created_at": "2026-11-22T09:30:00.123456+00:00",
         *             "id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *             "is_favorited": false,
         *             "metadata": {},
         *             "model_tag": "default",
         *             "tags": [],
         *             "title": "What is the capital of France?",
         *             "updated_at": "2026-11-22T09:31:12.456789+00:00",
         *             "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8"
         *           },
         *           "matches": [
         *             [
         *               0,
         *               3
         *             ]
         *           ],
         *           "message": {
         *             "created_at": "2026-11-22T09:31:12.456789+00:00",
         *             "id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c6a",
         *             "role": "assistant"
         *           },
         *           "snippet": "Paris."
         *         }
         *       ]
         *     }
         */
        FoundPage: {
            /** Items */
            items: components["schemas"]["FoundItem"][];
            /**
             * Next Cursor
             * @description pass it as `cursor` for the next page
             */
            next_cursor: string | null;
        };
        /**
         * Health
         * @example {
         *       "ready": true,
         *       "service": "chat-api",
         *       "status": "ok"
         *     }
         */
        Health: {
            /**
             * Ready
             * @default true
             * @constant
             */
            ready: true;
            /**
             * Service
             * @default chat-api
             * @constant
             */
            service: "chat-api";
            /**
             * Status
             * @default ok
             * @constant
             */
            status: "ok";
        };
        /**
         * Imported
         * @example {
         *       "failed": [
         *         {
         *           "detail": "This is not valid JSON.",
         *           "line": 4
         *         }
         *       ],
         *       "imported": 2,
         *       "unchanged": 1
         *     }
         */
        Imported: {
            /**
             * Failed
             * @description at most 1,000; after that the import ends
             */
            failed: components["schemas"]["FailedImport"][];
            /**
             * Imported
             * @description new conversations
             */
            imported: number;
            /**
             * Unchanged
             * @description conversations that the user has already
             */
            unchanged: number;
        };
        /**
         * Message
         * @example {
         *       "content": "Paris.",
         *       "conversation_id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *       "created_at": "2026-11-22T09:31:12.456789+00:00",
         *       "error": null,
         *       "finish_reason": "stop",
         *       "id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c6a",
         *       "inference_time_ms": 312,
         *       "model_tag": "default",
         *       "parent_id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c69",
         *       "reasoning": null,
         *       "role": "assistant",
         *       "status": "complete",
         *       "token_count": 2,
         *       "usage": {
         *         "input_tokens": 14,
         *         "output_tokens": 2
         *       },
         *       "version": 1,
         *       "versions": 1
         *     }
         */
        Message: {
            /** Content */
            content: string;
            /** Conversation Id */
            conversation_id: string;
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /**
             * Error
             * @description the code of the failure
             */
            error: string | null;
            /** Finish Reason */
            finish_reason: ("stop" | "length" | "content_filter") | null;
            /** Id */
            id: string;
            /** Inference Time Ms */
            inference_time_ms: number;
            /** Model Tag */
            model_tag: string;
            /**
             * Parent Id
             * @description the message before it; null for a first one
             */
            parent_id: string | null;
            /**
             * Reasoning
             * @description the model's reasoning, if the engine reports it
             */
            reasoning: string | null;
            /**
             * Role
             * @enum {string}
             */
            role: "user" | "assistant" | "system";
            /**
             * Status
             * @enum {string}
             */
            status: "generating" | "complete" | "stopped" | "interrupted" | "failed";
            /** Token Count */
            token_count: number;
            /** @description the engine's count; null if it reports none */
            usage: components["schemas"]["Usage"] | null;
            /**
             * Version
             * @description its number among those with the same parent, from 1
             */
            version: number;
            /**
             * Versions
             * @description the number of messages with the same parent
             */
            versions: number;
        };
        /**
         * Problem
         * @description A problem document (RFC 9457).
         */
        Problem: {
            /** Detail */
            detail: string;
            /**
             * Errors
             * @default null
             */
            errors: components["schemas"]["FieldError"][] | null;
            /** Status */
            status: number;
            /** Title */
            title: string;
            /** Trace Id */
            trace_id: string;
            /** Type */
            type: string;
        };
        /**
         * Ready
         * @example {
         *       "checks": {
         *         "database": "ok",
         *         "draining": "ok",
         *         "migrations": "ok"
         *       },
         *       "status": "ok"
         *     }
         */
        Ready: {
            /** Checks */
            checks: {
                [key: string]: string;
            };
            /**
             * Status
             * @default ok
             * @constant
             */
            status: "ok";
        };
        /** ReasoningEvent */
        ReasoningEvent: {
            /**
             * Reasoning
             * @description a piece of the model's thinking, which is no part of the text
             */
            reasoning: string;
        };
        /** ResetEvent */
        ResetEvent: {
            reset: components["schemas"]["Attempt"];
        };
        /**
         * ResyncEvent
         * @description The cursor is too old or unknown: load the list again.
         */
        ResyncEvent: {
            /**
             * Resync
             * @constant
             */
            resync: true;
        };
        /** SnapshotEvent */
        SnapshotEvent: {
            snapshot: components["schemas"]["TextSoFar"];
        };
        /** Started */
        Started: {
            /** Attempt */
            attempt: number;
            /** Conversation Id */
            conversation_id: string;
            /** Message Id */
            message_id: string;
            /** User Message Id */
            user_message_id: string;
        };
        /** StartEvent */
        StartEvent: {
            start: components["schemas"]["Started"];
        };
        /**
         * Tags
         * @example {
         *       "items": [
         *         "poems",
         *         "work"
         *       ]
         *     }
         */
        Tags: {
            /**
             * Items
             * @description in the order of code points; at most 1,000
             */
            items: string[];
        };
        /** TextSoFar */
        TextSoFar: {
            /** Content */
            content: string;
            /**
             * Reasoning
             * @description the thinking so far, where there is any
             */
            reasoning?: string | null;
        };
        /** TokenEvent */
        TokenEvent: {
            /** Token */
            token: string;
        };
        /** UiMessage */
        UiMessage: {
            /** Id */
            id: string;
            metadata: components["schemas"]["UiMetadata"];
            /** Parts */
            parts: components["schemas"]["UiPart"][];
            /**
             * Role
             * @enum {string}
             */
            role: "user" | "assistant" | "system";
        };
        /** UiMetadata */
        UiMetadata: {
            /**
             * Status
             * @enum {string}
             */
            status: "generating" | "complete" | "stopped" | "interrupted" | "failed";
        };
        /** UiPart */
        UiPart: {
            /** State */
            state?: "done" | null;
            /** Text */
            text?: string | null;
            /**
             * Type
             * @enum {string}
             */
            type: "step-start" | "reasoning" | "text";
        };
        /**
         * Usage
         * @example {
         *       "input_tokens": 14,
         *       "output_tokens": 2
         *     }
         */
        Usage: {
            /** Input Tokens */
            input_tokens: number;
            /** Output Tokens */
            output_tokens: number;
        };
        /**
         * UsagePage
         * @example {
         *       "items": [
         *         {
         *           "answers": 3,
         *           "by_status": {
         *             "complete": 2,
         *             "stopped": 1
         *           },
         *           "day": "2026-11-22",
         *           "estimated": 0,
         *           "input_tokens": 410,
         *           "output_tokens": 96
         *         }
         *       ],
         *       "limits": {
         *         "answers_per_day": {
         *           "left": 97,
         *           "limit": 100,
         *           "used": 3
         *         },
         *         "resets_at": "2026-11-23T00:00:00+00:00"
         *       }
         *     }
         */
        UsagePage: {
            /** Items */
            items: components["schemas"]["UsageSum"][];
            limits: components["schemas"]["DayLimits"];
        };
        /** UsageSum */
        UsageSum: {
            /** Answers */
            answers: number;
            /**
             * By Status
             * @description the number of answers by status
             */
            by_status: {
                [key: string]: number;
            };
            /**
             * Day
             * @description in UTC; only with `by=day`
             */
            day?: string | null;
            /**
             * Estimated
             * @description answers whose tokens the service counted, not the engine
             */
            estimated: number;
            /** Input Tokens */
            input_tokens: number;
            /**
             * Model Tag
             * @description only with `by=model`
             */
            model_tag?: string | null;
            /** Output Tokens */
            output_tokens: number;
            /**
             * User Id
             * @description only with `by=user`; null: erased users
             */
            user_id?: string | null;
        };
        /**
         * UserLimitsRead
         * @example {
         *       "answers_per_day": 200,
         *       "limits": {
         *         "answers_per_day": {
         *           "left": 197,
         *           "limit": 200,
         *           "used": 3
         *         },
         *         "resets_at": "2026-11-23T00:00:00+00:00"
         *       },
         *       "user_id": "719191c4-d024-5da2-ac03-4338c09d10d8"
         *     }
         */
        UserLimitsRead: {
            /**
             * Answers Per Day
             * @description set for this user; null: the setting applies
             */
            answers_per_day: number | null;
            /** @description the limits that apply today */
            limits: components["schemas"]["DayLimits"];
            /**
             * Tokens Per Day
             * @description set for this user; null: the setting applies
             */
            tokens_per_day: number | null;
            /** User Id */
            user_id: string;
        };
        /**
         * Version
         * @example {
         *       "content": "Paris.",
         *       "conversation_id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *       "created_at": "2026-11-22T09:31:12.456789+00:00",
         *       "finish_reason": "stop",
         *       "id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c6a",
         *       "inference_time_ms": 312,
         *       "model_tag": "default",
         *       "parent_id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c69",
         *       "role": "assistant",
         *       "shown": true,
         *       "status": "complete",
         *       "token_count": 2,
         *       "usage": {
         *         "input_tokens": 14,
         *         "output_tokens": 2
         *       },
         *       "version": 1,
         *       "versions": 1
         *     }
         */
        Version: {
            /** Content */
            content: string;
            /** Conversation Id */
            conversation_id: string;
            /**
             * Created At
             * Format: date-time
             */
            created_at: string;
            /**
             * Error
             * @description the code of the failure
             */
            error: string | null;
            /** Finish Reason */
            finish_reason: ("stop" | "length" | "content_filter") | null;
            /** Id */
            id: string;
            /** Inference Time Ms */
            inference_time_ms: number;
            /** Model Tag */
            model_tag: string;
            /**
             * Parent Id
             * @description the message before it; null for a first one
             */
            parent_id: string | null;
            /**
             * Reasoning
             * @description the model's reasoning, if the engine reports it
             */
            reasoning: string | null;
            /**
             * Role
             * @enum {string}
             */
            role: "user" | "assistant" | "system";
            /** Shown */
            shown: boolean;
            /**
             * Status
             * @enum {string}
             */
            status: "generating" | "complete" | "stopped" | "interrupted" | "failed";
            /** Token Count */
            token_count: number;
            /** @description the engine's count; null if it reports none */
            usage: components["schemas"]["Usage"] | null;
            /**
             * Version
             * @description its number among those with the same parent, from 1
             */
            version: number;
            /**
             * Versions
             * @description the number of messages with the same parent
             */
            versions: number;
        };
        /**
         * Versions
         * @example {
         *       "items": [
         *         {
         *           "content": "Paris.",
         *           "conversation_id": "019aab5c-7d0e-7c39-9f6e-0a3a3e1fb0a1",
         *           "created_at": "2026-11-22T09:31:12.456789+00:00",
         *           "finish_reason": "stop",
         *           "id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c6a",
         *           "inference_time_ms": 312,
         *           "model_tag": "default",
         *           "parent_id": "019aab5d-1f00-7a01-8000-5f0e8d2b4c69",
         *           "role": "assistant",
         *           "shown": true,
         *           "status": "complete",
         *           "token_count": 2,
         *           "usage": {
         *             "input_tokens": 14,
         *             "output_tokens": 2
         *           },
         *           "version": 1,
         *           "versions": 1
         *         }
         *       ]
         *     }
         */
        Versions: {
            /** Items */
            items: components["schemas"]["Version"][];
            /**
             * Next Before
             * @description pass it as `before` for the versions before these
             */
            next_before: string | null;
        };
    };
    responses: never;
    parameters: never;
    requestBodies: never;
    headers: never;
    pathItems: never;
}
export type $defs = Record<string, never>;
export interface operations {
    read_audit_api_admin_audit_get: {
        parameters: {
            query?: {
                /** @description `next_cursor` of the previous page */
                cursor?: string;
                limit?: number;
                /** @description only rows of this user */
                user_id?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AuditPage"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    read_usage_api_admin_usage_get: {
        parameters: {
            query?: {
                by?: "user" | "day" | "model";
                /** @description the first day (UTC); default: 29 days before `to` */
                from?: string;
                /** @description most users in a page */
                limit?: number;
                /** @description users to skip */
                offset?: number;
                /** @description the last day (UTC); default: today */
                to?: string;
                /** @description only rows of this user */
                user_id?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["AdminUsagePage"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_user_api_admin_users__user_id__delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description the user's id, as the auth service gives it */
                user_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    read_limits_api_admin_users__user_id__limits_get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description the user's id, as the auth service gives it */
                user_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UserLimitsRead"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    set_limits_api_admin_users__user_id__limits_put: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description the user's id, as the auth service gives it */
                user_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /** Answers Per Day */
                    answers_per_day?: number | null;
                    /** Tokens Per Day */
                    tokens_per_day?: number | null;
                };
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UserLimitsRead"];
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    remove_limits_api_admin_users__user_id__limits_delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description the user's id, as the auth service gives it */
                user_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    follow_changes_api_changes_get: {
        parameters: {
            query?: {
                /** @description the same, for clients that cannot set headers */
                after?: string;
            };
            header?: {
                /** @description the id of the last received event */
                "last-event-id"?: string;
            };
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The changes as they are committed; the stream does not end by itself */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example retry: 1000
                     *
                     *     id: 1764087300000000
                     *     data: {"cursor":true}
                     *
                     *     id: 1764087312345678
                     *     data: {"conversation":{"id":"…","user_id":"…","title":"Paris", …}}
                     *
                     *     id: 1764087312345679
                     *     data: {"answer":{"conversation_id":"…","message_id":"…","status":"generating"}}
                     *
                     *     id: 1764087399999999
                     *     data: {"deleted":"…"}
                     */
                    "text/event-stream": unknown;
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    send_turn_api_chat_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /** Force Web Search */
                    force_web_search?: boolean | null;
                    /**
                     * Id
                     * @description a conversation's id, or the client's own id
                     */
                    id: string;
                    /**
                     * If Busy
                     * @description while an answer runs: 409, or stop it; without it, it is stopped where no client reads it
                     */
                    if_busy?: ("reject" | "stop") | null;
                    /**
                     * Max Tokens
                     * @example 512
                     */
                    max_tokens?: number | null;
                    /**
                     * Message
                     * @description only the last message, instead of `messages`
                     */
                    message?: {
                        [key: string]: unknown;
                    } | null;
                    /**
                     * Messageid
                     * @description the message to edit, or the answer to regenerate, or its question
                     */
                    messageId?: string | null;
                    /**
                     * Messages
                     * @description only the last one is read: the service keeps the history
                     */
                    messages?: {
                        [key: string]: unknown;
                    }[] | null;
                    /**
                     * Model Tag
                     * @description the model for this answer, instead of the conversation's
                     */
                    model_tag?: string | null;
                    /**
                     * Response Format
                     * @description as in OpenAI's Chat Completions; engines without support ignore it
                     * @example {
                     *       "type": "json_object"
                     *     }
                     */
                    response_format?: {
                        /** @enum {unknown} */
                        type: "text" | "json_object" | "json_schema";
                    } | {
                        [key: string]: unknown;
                    } | null;
                    /**
                     * Stop
                     * @description texts at which the answer ends: 1 to 4 of 1 to 100 characters; one may come without a list
                     * @example [
                     *       "\n\n"
                     *     ]
                     */
                    stop?: string | string[] | null;
                    /**
                     * Temperature
                     * @example 0.7
                     */
                    temperature?: number | null;
                    /** Thinking Mode */
                    thinking_mode?: boolean | null;
                    /**
                     * Top K
                     * @example 40
                     */
                    top_k?: number | null;
                    /**
                     * Top P
                     * @example 0.9
                     */
                    top_p?: number | null;
                    /**
                     * Trigger
                     * @default submit-message
                     * @enum {string}
                     */
                    trigger?: "submit-message" | "regenerate-message";
                };
            };
        };
        responses: {
            /** @description A UI message stream, protocol version 1 */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example data: {"type":"start","messageId":"msg_019aab5d1f007a0180005f0e8d2b4c6a","messageMetadata":{"model_tag":"default"}}
                     *
                     *     data: {"type":"start-step"}
                     *
                     *     data: {"type":"text-start","id":"text-1"}
                     *
                     *     data: {"type":"text-delta","id":"text-1","delta":"Paris"}
                     *
                     *     data: {"type":"text-end","id":"text-1"}
                     *
                     *     data: {"type":"finish-step"}
                     *
                     *     data: {"type":"finish","messageMetadata":{"status":"complete","usage":{"input_tokens":14,"output_tokens":1}}}
                     *
                     *     data: [DONE]
                     */
                    "text/event-stream": unknown;
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            502: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_messages_api_chat__chat_id__messages_get: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description a conversation's id, or the client's own id */
                chat_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UiMessage"][];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    stop_api_chat__chat_id__stop_post: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                /** @description a conversation's id, or the client's own id */
                chat_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UiMessage"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    resume_stream_api_chat__chat_id__stream_get: {
        parameters: {
            query?: {
                /** @description the number of chunks to skip; negative: none */
                startIndex?: number;
            };
            header?: never;
            path: {
                /** @description a conversation's id, or the client's own id */
                chat_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description A UI message stream, protocol version 1 */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example data: {"type":"start","messageId":"msg_019aab5d1f007a0180005f0e8d2b4c6a","messageMetadata":{"model_tag":"default"}}
                     *
                     *     data: {"type":"start-step"}
                     *
                     *     data: {"type":"text-start","id":"text-1"}
                     *
                     *     data: {"type":"text-delta","id":"text-1","delta":"Paris"}
                     *
                     *     data: {"type":"text-end","id":"text-1"}
                     *
                     *     data: {"type":"finish-step"}
                     *
                     *     data: {"type":"finish","messageMetadata":{"status":"complete","usage":{"input_tokens":14,"output_tokens":1}}}
                     *
                     *     data: [DONE]
                     */
                    "text/event-stream": unknown;
                };
            };
            /** @description No answer is running */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_conversations_api_conversations_get: {
        parameters: {
            query?: {
                /** @description `next_cursor` of the previous page */
                cursor?: string;
                /** @description true: only favourites; false: only the others */
                favorited?: "true" | "false";
                limit?: number;
                /** @description without a cursor: how many to skip */
                offset?: number;
                /** @description only conversations with this tag */
                tag?: string;
                /** @description the IANA time zone of the grouping by day */
                tz?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConversationPage"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    create_conversation_api_conversations_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": {
                    /** Expires At */
                    expires_at?: string | null;
                    /** @description begin with a copy of the path to this message */
                    fork?: {
                        /**
                         * Conversation Id
                         * Format: uuid
                         */
                        conversation_id: string;
                        /**
                         * Message Id
                         * Format: uuid
                         */
                        message_id: string;
                    } | null;
                    /** Instructions */
                    instructions?: string | null;
                    /** Metadata */
                    metadata?: {
                        [key: string]: string;
                    } | null;
                    /** Model Tag */
                    model_tag?: string | null;
                    options?: {
                        /**
                         * Max Tokens
                         * @example 512
                         */
                        max_tokens?: number | null;
                        /**
                         * Temperature
                         * @example 0.7
                         */
                        temperature?: number | null;
                        /** Thinking Mode */
                        thinking_mode?: boolean | null;
                        /**
                         * Top K
                         * @example 40
                         */
                        top_k?: number | null;
                    } | null;
                    /** Tags */
                    tags?: string[] | null;
                    /** Title */
                    title?: string | null;
                };
            };
        };
        responses: {
            /** @description Successful Response */
            201: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Conversation"];
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    open_conversation_api_conversations__conversation_id__get: {
        parameters: {
            query?: {
                /** @description messages before the one with this id */
                before?: string;
                /** @description most messages in the page, the newest ones, with at most 4 MB of JSON */
                limit?: number;
            };
            header?: never;
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConversationWithMessages"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    rename_conversation_api_conversations__conversation_id__put: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /**
                     * Title
                     * @example Samosas for a party
                     */
                    title: string;
                };
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Conversation"];
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_conversation_api_conversations__conversation_id__delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    change_conversation_api_conversations__conversation_id__patch: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /** Expires At */
                    expires_at?: string | null;
                    /** Instructions */
                    instructions?: string | null;
                    /**
                     * Is Favorited
                     * @example true
                     */
                    is_favorited?: boolean | null;
                    /** Metadata */
                    metadata?: {
                        [key: string]: string;
                    } | null;
                    /** Model Tag */
                    model_tag?: string | null;
                    options?: {
                        /**
                         * Max Tokens
                         * @example 512
                         */
                        max_tokens?: number | null;
                        /**
                         * Temperature
                         * @example 0.7
                         */
                        temperature?: number | null;
                        /** Thinking Mode */
                        thinking_mode?: boolean | null;
                        /**
                         * Top K
                         * @example 40
                         */
                        top_k?: number | null;
                    } | null;
                    /** Tags */
                    tags?: string[] | null;
                    /** Title */
                    title?: string | null;
                };
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Conversation"];
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    continue_answer_api_conversations__conversation_id__continue_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description A repeat with the same key and body joins the answer of the first request */
                "Idempotency-Key"?: string;
            };
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": {
                    /** Force Web Search */
                    force_web_search?: boolean | null;
                    /**
                     * If Busy
                     * @description while an answer runs: 409, or stop it; without it, it is stopped where no client reads it
                     */
                    if_busy?: ("reject" | "stop") | null;
                    /**
                     * Max Tokens
                     * @example 512
                     */
                    max_tokens?: number | null;
                    /**
                     * Model Tag
                     * @description the model for this answer, instead of the conversation's
                     */
                    model_tag?: string | null;
                    /**
                     * Response Format
                     * @description as in OpenAI's Chat Completions; engines without support ignore it
                     * @example {
                     *       "type": "json_object"
                     *     }
                     */
                    response_format?: {
                        /** @enum {unknown} */
                        type: "text" | "json_object" | "json_schema";
                    } | {
                        [key: string]: unknown;
                    } | null;
                    /**
                     * Stop
                     * @description texts at which the answer ends: 1 to 4 of 1 to 100 characters; one may come without a list
                     * @example [
                     *       "\n\n"
                     *     ]
                     */
                    stop?: string | string[] | null;
                    /**
                     * Temperature
                     * @example 0.7
                     */
                    temperature?: number | null;
                    /** Thinking Mode */
                    thinking_mode?: boolean | null;
                    /**
                     * Top K
                     * @example 40
                     */
                    top_k?: number | null;
                    /**
                     * Top P
                     * @example 0.9
                     */
                    top_p?: number | null;
                };
            };
        };
        responses: {
            /** @description The answer as a stream; with `Accept: application/json`, the finished message */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Message"];
                    /**
                     * @example retry: 1000
                     *
                     *     id: 0a3a3e1fb0a1.1.0
                     *     data: {"start":{"conversation_id":"…","message_id":"…","user_message_id":"…","attempt":1}}
                     *
                     *     id: 0a3a3e1fb0a1.1.1
                     *     data: {"token":"Paris","gpu":0}
                     *
                     *     id: 0a3a3e1fb0a1.1.2
                     *     data: {"done":true,"message_id":"…","status":"complete","token_count":1,"inference_time_ms":312,"model_tag":"default","finish_reason":"stop","usage":{"input_tokens":14,"output_tokens":1}}
                     */
                    "text/event-stream": unknown;
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            502: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            504: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    export_conversation_api_conversations__conversation_id__export_get: {
        parameters: {
            query?: {
                /** @description json: the whole tree; markdown: the shown path */
                format?: "json" | "markdown";
            };
            header?: never;
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The conversation as a file */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "id": "…"
                     *     }
                     */
                    "application/json": Record<string, never>;
                    /** @example # Paris */
                    "text/markdown": string;
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    send_message_api_conversations__conversation_id__messages_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description A repeat with the same key and body joins the answer of the first request */
                "Idempotency-Key"?: string;
            };
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /**
                     * Content
                     * @example What is the capital of France?
                     */
                    content: string;
                    /** Force Web Search */
                    force_web_search?: boolean | null;
                    /**
                     * If Busy
                     * @description while an answer runs: 409, or stop it; without it, it is stopped where no client reads it
                     */
                    if_busy?: ("reject" | "stop") | null;
                    /**
                     * Max Tokens
                     * @example 512
                     */
                    max_tokens?: number | null;
                    /**
                     * Model Tag
                     * @description the model for this answer, instead of the conversation's
                     */
                    model_tag?: string | null;
                    /**
                     * Parent Id
                     * @description the message to add it after; the last one shown without it, null for a new first message
                     */
                    parent_id?: string | null;
                    /**
                     * Response Format
                     * @description as in OpenAI's Chat Completions; engines without support ignore it
                     * @example {
                     *       "type": "json_object"
                     *     }
                     */
                    response_format?: {
                        /** @enum {unknown} */
                        type: "text" | "json_object" | "json_schema";
                    } | {
                        [key: string]: unknown;
                    } | null;
                    /**
                     * Stop
                     * @description texts at which the answer ends: 1 to 4 of 1 to 100 characters; one may come without a list
                     * @example [
                     *       "\n\n"
                     *     ]
                     */
                    stop?: string | string[] | null;
                    /**
                     * Temperature
                     * @example 0.7
                     */
                    temperature?: number | null;
                    /** Thinking Mode */
                    thinking_mode?: boolean | null;
                    /**
                     * Top K
                     * @example 40
                     */
                    top_k?: number | null;
                    /**
                     * Top P
                     * @example 0.9
                     */
                    top_p?: number | null;
                };
            };
        };
        responses: {
            /** @description The answer as a stream; with `Accept: application/json`, the finished message */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Message"];
                    /**
                     * @example retry: 1000
                     *
                     *     id: 0a3a3e1fb0a1.1.0
                     *     data: {"start":{"conversation_id":"…","message_id":"…","user_message_id":"…","attempt":1}}
                     *
                     *     id: 0a3a3e1fb0a1.1.1
                     *     data: {"token":"Paris","gpu":0}
                     *
                     *     id: 0a3a3e1fb0a1.1.2
                     *     data: {"done":true,"message_id":"…","status":"complete","token_count":1,"inference_time_ms":312,"model_tag":"default","finish_reason":"stop","usage":{"input_tokens":14,"output_tokens":1}}
                     */
                    "text/event-stream": unknown;
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            502: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            504: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_message_api_conversations__conversation_id__messages__message_id__delete: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                conversation_id: string;
                message_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_versions_api_conversations__conversation_id__messages__message_id__versions_get: {
        parameters: {
            query?: {
                /** @description versions before the one with this id */
                before?: string;
                /** @description most versions, the newest ones, with at most 4 MB of JSON */
                limit?: number;
            };
            header?: never;
            path: {
                conversation_id: string;
                message_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Versions"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    show_path_api_conversations__conversation_id__path_put: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /**
                     * Message Id
                     * Format: uuid
                     */
                    message_id: string;
                };
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["ConversationWithMessages"];
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    regenerate_api_conversations__conversation_id__regenerate_post: {
        parameters: {
            query?: never;
            header?: {
                /** @description A repeat with the same key and body joins the answer of the first request */
                "Idempotency-Key"?: string;
            };
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: {
            content: {
                "application/json": {
                    /** Force Web Search */
                    force_web_search?: boolean | null;
                    /**
                     * If Busy
                     * @description while an answer runs: 409, or stop it; without it, it is stopped where no client reads it
                     */
                    if_busy?: ("reject" | "stop") | null;
                    /**
                     * Max Tokens
                     * @example 512
                     */
                    max_tokens?: number | null;
                    /**
                     * Message Id
                     * @description an answer; default: the last shown one
                     */
                    message_id?: string | null;
                    /**
                     * Model Tag
                     * @description the model for this answer, instead of the conversation's
                     */
                    model_tag?: string | null;
                    /**
                     * Response Format
                     * @description as in OpenAI's Chat Completions; engines without support ignore it
                     * @example {
                     *       "type": "json_object"
                     *     }
                     */
                    response_format?: {
                        /** @enum {unknown} */
                        type: "text" | "json_object" | "json_schema";
                    } | {
                        [key: string]: unknown;
                    } | null;
                    /**
                     * Stop
                     * @description texts at which the answer ends: 1 to 4 of 1 to 100 characters; one may come without a list
                     * @example [
                     *       "\n\n"
                     *     ]
                     */
                    stop?: string | string[] | null;
                    /**
                     * Temperature
                     * @example 0.7
                     */
                    temperature?: number | null;
                    /** Thinking Mode */
                    thinking_mode?: boolean | null;
                    /**
                     * Top K
                     * @example 40
                     */
                    top_k?: number | null;
                    /**
                     * Top P
                     * @example 0.9
                     */
                    top_p?: number | null;
                };
            };
        };
        responses: {
            /** @description The answer as a stream; with `Accept: application/json`, the finished message */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Message"];
                    /**
                     * @example retry: 1000
                     *
                     *     id: 0a3a3e1fb0a1.1.0
                     *     data: {"start":{"conversation_id":"…","message_id":"…","user_message_id":"…","attempt":1}}
                     *
                     *     id: 0a3a3e1fb0a1.1.1
                     *     data: {"token":"Paris","gpu":0}
                     *
                     *     id: 0a3a3e1fb0a1.1.2
                     *     data: {"done":true,"message_id":"…","status":"complete","token_count":1,"inference_time_ms":312,"model_tag":"default","finish_reason":"stop","usage":{"input_tokens":14,"output_tokens":1}}
                     */
                    "text/event-stream": unknown;
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            502: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            504: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    stop_api_conversations__conversation_id__stop_post: {
        parameters: {
            query?: never;
            header?: never;
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Message"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    join_stream_api_conversations__conversation_id__stream_get: {
        parameters: {
            query?: {
                /** @description the same, for clients that cannot set headers */
                after?: string;
            };
            header?: {
                /** @description the id of the last received event */
                "last-event-id"?: string;
            };
            path: {
                conversation_id: string;
            };
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The rest of the answer */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example retry: 1000
                     *
                     *     id: 0a3a3e1fb0a1.1.0
                     *     data: {"start":{"conversation_id":"…","message_id":"…","user_message_id":"…","attempt":1}}
                     *
                     *     id: 0a3a3e1fb0a1.1.1
                     *     data: {"token":"Paris","gpu":0}
                     *
                     *     id: 0a3a3e1fb0a1.1.2
                     *     data: {"done":true,"message_id":"…","status":"complete","token_count":1,"inference_time_ms":312,"model_tag":"default","finish_reason":"stop","usage":{"input_tokens":14,"output_tokens":1}}
                     */
                    "text/event-stream": unknown;
                };
            };
            /** @description No answer is running, and no events remain to be sent */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    export_everything_api_export_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description One conversation with its whole tree per line */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /** @example {"id":"…","title":"Paris", …, "messages":[{"id":"…","role":"user","content":"…"}]} */
                    "application/x-ndjson": string;
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    health_api_health_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Health"];
                };
            };
        };
    };
    import_conversations_api_import_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                /** @example [] */
                "application/json": unknown;
                /** @example {"id":"…","title":"Paris", …, "messages":[{"id":"…","role":"user","content":"…"}]} */
                "application/x-ndjson": string;
                "application/zip": string;
            };
        };
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Imported"];
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    delete_me_api_me_delete: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            204: {
                headers: {
                    [name: string]: unknown;
                };
                content?: never;
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_models_api_models_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description The response of the inference service */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "current_model": "small",
                     *       "models": [
                     *         {
                     *           "model_tag": "small",
                     *           "source": "file",
                     *           "path": "/models/small.gguf",
                     *           "available": true,
                     *           "loaded": true
                     *         }
                     *       ]
                     *     }
                     */
                    "application/json": Record<string, never>;
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            502: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            504: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    swap_model_api_models_swap_post: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody: {
            content: {
                "application/json": {
                    /**
                     * Model Tag
                     * @example default
                     */
                    model_tag: string;
                };
            };
        };
        responses: {
            /** @description The response of the inference service */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /**
                     * @example {
                     *       "status": "ok",
                     *       "current_model": "small"
                     *     }
                     */
                    "application/json": Record<string, never>;
                };
            };
            /** @description A problem document (RFC 9457) */
            400: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            403: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            404: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            409: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            413: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            415: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            502: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            504: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    ready_api_ready_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Ready"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    search_api_search_get: {
        parameters: {
            query: {
                /** @description `next_cursor` of the previous page */
                cursor?: string;
                limit?: number;
                /** @description words, separated by spaces */
                q: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["FoundPage"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    list_tags_api_tags_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["Tags"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    read_usage_api_usage_get: {
        parameters: {
            query?: {
                by?: "day" | "model";
                /** @description the first day (UTC); default: 29 days before `to` */
                from?: string;
                /** @description the last day (UTC); default: today */
                to?: string;
            };
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/json": components["schemas"]["UsagePage"];
                };
            };
            /** @description A problem document (RFC 9457) */
            401: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            422: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            429: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
            /** @description A problem document (RFC 9457) */
            503: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    "application/problem+json": components["schemas"]["Problem"];
                };
            };
        };
    };
    metrics_metrics_get: {
        parameters: {
            query?: never;
            header?: never;
            path?: never;
            cookie?: never;
        };
        requestBody?: never;
        responses: {
            /** @description Successful Response */
            200: {
                headers: {
                    [name: string]: unknown;
                };
                content: {
                    /** @example chat_api_open_streams 3.0 */
                    "text/plain": unknown;
                };
            };
        };
    };
}
