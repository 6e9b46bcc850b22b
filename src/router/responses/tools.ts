import type { Fields } from '../calls/body.ts'
import { invalid, isObject, refuseOthers, show, unsupported } from './refusal.ts'

export type FunctionTool = {
  type: 'function'
  name: string
  description: string | null
  parameters: Fields | null
  strict: boolean | null
}

export type ToolChoice =
  | 'none'
  | 'auto'
  | 'required'
  | { type: 'function'; name: string }
  | { type: 'allowed_tools'; mode: 'auto' | 'required'; tools: readonly { type: 'function'; name: string }[] }

/** The functions of a request; any other kind of tool is refused by its name. */
export function parseTools(tools: readonly unknown[]): FunctionTool[] {
  const names = new Set<string>()
  return tools.map((tool, index) => {
    const path = `tools[${index}]`
    if (!isObject(tool)) throw invalid(path, `must be an object; it is ${show(tool)}`)
    if (tool['type'] !== 'function') {
      throw unsupported(
        `${path}.type`,
        `${show(tool['type'])} is not offered here; only tools of type "function" are`,
      )
    }
    const parsed = parseFunction(tool, path)
    if (names.has(parsed.name))
      throw invalid(`${path}.name`, `must be the name of one tool; ${parsed.name} is taken`)
    names.add(parsed.name)
    return parsed
  })
}

function parseFunction(tool: Fields, path: string): FunctionTool {
  // Their defaults change nothing; what asks for more is refused below.
  const { async, defer_loading: defers, ...rest } = tool
  refuseOthers(
    {
      ...rest,
      ...(async === false ? {} : { async }),
      ...(defers === false ? {} : { defer_loading: defers }),
    },
    path,
    ['type', 'name', 'description', 'parameters', 'strict'],
  )
  const { name, description, parameters, strict } = tool
  if (typeof name !== 'string' || !/^[\w.-]{1,128}$/.test(name)) {
    throw invalid(
      `${path}.name`,
      `must be 1 to 128 letters, digits, \`_\`, \`.\` or \`-\`; it is ${show(name)}`,
    )
  }
  if ((description ?? null) !== null && typeof description !== 'string') {
    throw invalid(`${path}.description`, `must be a string; it is ${show(description)}`)
  }
  if ((parameters ?? null) !== null && !isObject(parameters)) {
    throw invalid(`${path}.parameters`, `must be an object; it is ${show(parameters)}`)
  }
  if ((strict ?? null) !== null && typeof strict !== 'boolean') {
    throw invalid(`${path}.strict`, `must be a boolean; it is ${show(strict)}`)
  }
  return {
    type: 'function',
    name,
    description: (description ?? null) as string | null,
    parameters: (parameters ?? null) as Fields | null,
    strict: (strict ?? null) as boolean | null,
  }
}

export function parseToolChoice(choice: unknown, tools: readonly FunctionTool[]): ToolChoice {
  if (choice === undefined || choice === null) return 'auto'
  if (choice === 'none' || choice === 'auto' || choice === 'required') return choice
  if (!isObject(choice)) {
    throw invalid('tool_choice', `must be none, auto, required or an object; it is ${show(choice)}`)
  }
  const { type, mode } = choice
  if (type === 'function') {
    refuseOthers(choice, 'tool_choice', ['type', 'name'])
    return { type, name: readName(choice['name'], 'tool_choice.name', tools) }
  }
  if (type !== 'allowed_tools') {
    throw unsupported(
      'tool_choice.type',
      `${show(type)} is not offered here; "function" and "allowed_tools" are`,
    )
  }
  refuseOthers(choice, 'tool_choice', ['type', 'mode', 'tools'])
  if (mode !== 'auto' && mode !== 'required') {
    throw invalid('tool_choice.mode', `must be auto or required; it is ${show(mode)}`)
  }
  const allowed = choice['tools']
  if (!Array.isArray(allowed) || allowed.length === 0) {
    throw invalid('tool_choice.tools', `must be an array of tools; it is ${show(allowed)}`)
  }
  const read = (allowed as unknown[]).map((tool, index) => {
    const path = `tool_choice.tools[${index}]`
    if (!isObject(tool) || tool['type'] !== 'function')
      throw unsupported(path, 'only functions can be allowed')
    return { type: 'function' as const, name: readName(tool['name'], `${path}.name`, tools) }
  })
  return { type, mode, tools: read }
}

function readName(name: unknown, param: string, tools: readonly FunctionTool[]): string {
  if (typeof name === 'string' && tools.some((tool) => tool.name === name)) return name
  throw invalid(param, `must name one of \`tools\`; it is ${show(name)}`)
}
