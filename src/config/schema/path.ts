/** Ways through the schema: from a path of the file to what may stand there. */
import { z } from 'zod';
import { fileSchema } from './file.ts';

/** The schema without the wrappers that say what happens when the key is absent. */
export function core(schema: z.core.$ZodType): z.core.$ZodType {
  const isWrapper = schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault;
  return isWrapper ? core(schema.unwrap()) : schema;
}

/** The schema of the value under `name` in a table, or of an array's elements; undefined for an unknown key. */
export function childSchema(parent: z.core.$ZodType, name: PropertyKey): z.core.$ZodType | undefined {
  const schema = core(parent);
  if (schema instanceof z.ZodRecord) return schema.valueType;
  if (schema instanceof z.ZodArray) return schema.element;
  // A list of names, or tables.
  if (schema instanceof z.ZodUnion) {
    const isPlace = typeof name === 'number';
    const fitting = schema.options.filter((option) => core(option) instanceof z.ZodArray === isPlace);
    return fitting.map((option) => childSchema(option, name)).find((child) => child !== undefined);
  }
  if (schema instanceof z.ZodObject && Object.hasOwn(schema.shape, name)) return schema.shape[String(name)];
  return undefined;
}

/** The schema at a path of the file, or undefined. */
export function schemaAt(path: readonly PropertyKey[]): z.core.$ZodType | undefined {
  let schema: z.core.$ZodType | undefined = fileSchema;
  for (const part of path) schema = schema && childSchema(schema, part);
  return schema;
}
