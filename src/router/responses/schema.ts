import { Type, type TSchema } from 'typebox'

const optional = (schema: TSchema, description: string) =>
  Type.Optional(Type.Union([schema, Type.Null()], { description }))

const open = { additionalProperties: true }

/**
 * The body of `POST /v1/responses`, as far as a schema says it well: of a union it could not say which part of a part
 * is wrong. `request.ts` knows the rest.
 */
export const ResponseBody = Type.Object(
  {
    model: Type.String({ minLength: 1, maxLength: 512, description: 'A model of GET /v1/models, or an alias.' }),
    input: Type.Union([Type.String(), Type.Array(Type.Unknown(), { maxItems: 4096 })], { description: 'A text, or items: messages, function calls and their outputs.' }),
    instructions: optional(Type.String(), 'A system message in front of everything; not carried over to the next response.'),
    previous_response_id: optional(Type.String({ minLength: 1, maxLength: 200 }), 'A stored response that this one goes on from.'),
    stream: optional(Type.Boolean(), 'Answer as server-sent events.'),
    store: optional(Type.Boolean(), 'Keep the response, for GET and `previous_response_id`; true if absent.'),
    background: optional(Type.Boolean(), 'Answer at once and work as a task; needs `store`.'),
    max_output_tokens: optional(Type.Integer({ minimum: 1, maximum: 10_000_000 }), 'Tokens to generate at most, reasoning included.'),
    max_tool_calls: optional(Type.Integer({ minimum: 1 }), 'Counts calls of built-in tools, of which there are none.'),
    temperature: optional(Type.Number({ minimum: 0, maximum: 2 }), 'Goes to the model instance as it is.'),
    top_p: optional(Type.Number({ minimum: 0, maximum: 1 }), 'Goes to the model instance as it is.'),
    top_logprobs: optional(Type.Integer({ minimum: 0, maximum: 20 }), 'Most likely tokens at each position of the text.'),
    tools: optional(Type.Array(Type.Unknown(), { maxItems: 128 }), 'Functions that the model may call.'),
    tool_choice: Type.Optional(Type.Unknown({ description: '`none`, `auto`, `required`, one function, or `allowed_tools`.' })),
    parallel_tool_calls: optional(Type.Boolean(), 'False: one call at most.'),
    text: optional(Type.Object({}, open), '`format`: `text`, `json_object` or `json_schema`.'),
    reasoning: optional(Type.Object({}, open), '`effort`: how much the model thinks first.'),
    include: optional(Type.Array(Type.Unknown()), '`message.output_text.logprobs`.'),
    metadata: optional(Type.Object({}, open), 'Up to 16 pairs, kept with the response.'),
    user: optional(Type.String({ maxLength: 1000 }), 'Keeps a conversation together under the `session` policy.'),
    prompt_cache_key: optional(Type.String({ maxLength: 1000 }), 'As `user`, where that is absent.'),
    safety_identifier: optional(Type.String({ maxLength: 1000 }), 'Kept with the response.'),
    stream_options: optional(Type.Object({}, open), '`include_obfuscation: false`.'),
    truncation: optional(Type.String(), '`disabled`.'),
    service_tier: optional(
      Type.Enum(['auto', 'default', 'flex', 'priority']),
      'How urgent it is beside others.',
    ),
    prompt_cache_retention: optional(Type.String(), '`in_memory`.'),
  },
  open,
) // prettier-ignore
