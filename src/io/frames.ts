export * from '../packet/frames.ts';
